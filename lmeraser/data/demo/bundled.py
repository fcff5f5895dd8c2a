"""Data that comes with the dependencies: scikit-learn's handwritten digits, and glyphs of matplotlib's fonts.

The digits are private rows, real handwriting of 43 people; the glyphs are public rows, and no handwriting at all.
"""

from __future__ import annotations

import io
import string
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

from lmeraser.data.labels import LabelPlaces
from lmeraser.data.sample import Sample
from lmeraser.hashing import draw_uint64

_FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmb10",
    "cmr10",
    "cmss10",
    "cmti10",
    "cmtt10",
)
_CHARACTERS = string.digits + string.ascii_letters
_VARIANTS = 6
_CANVAS_PX = 64
# scikit-learn's digits were reduced to this size, so the public glyphs are too.
_DIGIT_PX = 8
_TEST_SHARE = 6


class DigitsSource:
    """The 1797 digits; one in six, drawn by the sample id, is a test row."""

    labels = tuple(string.digits)

    def __init__(self, split: str) -> None:
        """The rows of a split, "train" or "test"."""
        self._split = split

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples."""
        places = LabelPlaces(labels)
        digits = load_digits()
        for row, (levels, target) in enumerate(zip(digits.images, digits.target, strict=True)):
            sample_id = f"digit-{row:04d}"
            is_test = draw_uint64(0, "digits", sample_id) % _TEST_SHARE == 0
            if is_test == (self._split == "test"):
                image = Image.fromarray(np.round(levels * (255 / 16)).astype(np.uint8))
                yield Sample(sample_id, None, places.of_name(str(target), f"sample {sample_id!r}"), _png(image))


class GlyphsSource:
    """Digits and letters of matplotlib's fonts, each turned, sheared, scaled and moved in several ways."""

    labels = tuple(_CHARACTERS)

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples."""
        places = LabelPlaces(labels)
        folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        for name in _FONTS:
            font = ImageFont.truetype(folder / f"{name}.ttf", _CANVAS_PX * 5 // 8)
            for character in _CHARACTERS:
                for variant in range(_VARIANTS):
                    sample_id = f"{name}/U+{ord(character):04X}/{variant}"
                    generator = np.random.Generator(np.random.PCG64(draw_uint64(0, "glyphs", sample_id)))
                    image = _drawn(font, character, generator)
                    yield Sample(sample_id, None, places.of_name(character, f"sample {sample_id!r}"), _png(image))


def _drawn(font: ImageFont.FreeTypeFont, character: str, generator: np.random.Generator) -> Image.Image:
    """A character under a random affine map, reduced to the size of a digit."""
    canvas = Image.new("L", (_CANVAS_PX, _CANVAS_PX))
    middle = _CANVAS_PX / 2
    ImageDraw.Draw(canvas).text((middle, middle), character, fill=255, font=font, anchor="mm")
    left, top, right, bottom = canvas.getbbox() or (0, 0, _CANVAS_PX, _CANVAS_PX)
    # A digit fills its frame in height; so does a glyph, give or take.
    height_px = (bottom - top) / generator.uniform(0.85, 1.05)
    width_px = max((right - left) / generator.uniform(0.7, 1.0), height_px * generator.uniform(0.7, 1.0))
    angle, shear = generator.uniform(-0.2, 0.2), generator.uniform(-0.3, 0.3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scale = np.diag([width_px, height_px]) / _CANVAS_PX
    to_source = scale @ turn @ np.array([[1.0, shear], [0.0, 1.0]])
    centre = np.array([(left + right) / 2, (top + bottom) / 2]) + generator.uniform(-2, 2, 2)
    offset = centre - to_source @ np.array([middle, middle])
    coefficients = (*to_source[0], offset[0], *to_source[1], offset[1])
    moved = canvas.transform(canvas.size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return moved.resize((_DIGIT_PX, _DIGIT_PX), Image.Resampling.BOX)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
