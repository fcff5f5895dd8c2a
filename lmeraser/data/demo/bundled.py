"""Data that comes with the dependencies: scikit-learn's handwritten digits, and glyphs of matplotlib's fonts.

The digits are private rows, real handwriting of 43 people; the glyphs are public rows, and no handwriting at all.

Legend: P pixels per side.
"""

from __future__ import annotations

import io
import itertools
import string
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

from lmeraser.data.label_index import LabelIndex
from lmeraser.data.parts import PartedSource, Piece, ranges_of
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
DIGITS = 1797
# One digit in this number is a test row.
_TEST_SHARE = 6


class DigitsSource(PartedSource[range]):
    """The 1797 digits; one in six, drawn by a hash of the sample id, is a test row."""

    labels = tuple(string.digits)

    def __init__(self, split: str) -> None:
        """The rows of a split, "train" or "test"."""
        super().__init__()
        self._rows = [row for row in range(DIGITS) if _is_test_digit(row) == (split == "test")]

    def _pieces(self) -> Sequence[Piece[range]]:
        return ranges_of("digits", len(self._rows))

    def _ids(self, content: range, labels: tuple[str, ...]) -> Iterator[str]:  # noqa: ARG002
        return (digit_id(self._rows[row]) for row in content)

    def _read(self, content: range, labels: tuple[str, ...]) -> Iterator[Sample]:
        label_index = LabelIndex(labels)
        digits = load_digits()
        for row in (self._rows[row] for row in content):
            sample_id = digit_id(row)
            label = label_index.of_name(str(digits.target[row]), f"sample {sample_id!r}")
            yield Sample(sample_id, None, label, png(digit_image(digits.images[row])))


def digit_id(row: int) -> str:
    """The name of one of scikit-learn's digits."""
    return f"digit-{row:04d}"


def digit_image(levels_PP: np.ndarray) -> Image.Image:
    """An image of grey levels from scikit-learn's, which go from 0 to 16."""
    return Image.fromarray(np.round(levels_PP * (255 / 16)).astype(np.uint8))


def _is_test_digit(row: int) -> bool:
    return draw_uint64(0, "digits", digit_id(row)) % _TEST_SHARE == 0


class GlyphsSource(PartedSource[range]):
    """Digits and letters of matplotlib's fonts, each turned, sheared, scaled and moved in several ways."""

    labels = tuple(_CHARACTERS)

    def __init__(self) -> None:
        """All glyphs."""
        super().__init__()
        # Font, character and variant of each row.
        self._glyphs = list(itertools.product(_FONTS, _CHARACTERS, range(_VARIANTS)))

    def _pieces(self) -> Sequence[Piece[range]]:
        return ranges_of("glyphs", len(self._glyphs))

    def _ids(self, content: range, labels: tuple[str, ...]) -> Iterator[str]:  # noqa: ARG002
        return (_glyph_id(*self._glyphs[row]) for row in content)

    def _read(self, content: range, labels: tuple[str, ...]) -> Iterator[Sample]:
        label_index = LabelIndex(labels)
        folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        own = self._glyphs[content.start : content.stop]
        for name, glyphs in itertools.groupby(own, key=lambda glyph: glyph[0]):
            font = ImageFont.truetype(folder / f"{name}.ttf", _CANVAS_PX * 5 // 8)
            for _, character, variant in glyphs:
                sample_id = _glyph_id(name, character, variant)
                generator = np.random.Generator(np.random.PCG64(draw_uint64(0, "glyphs", sample_id)))
                image = _render(font, character, generator)
                yield Sample(sample_id, None, label_index.of_name(character, f"sample {sample_id!r}"), png(image))


def _glyph_id(font: str, character: str, variant: int) -> str:
    return f"{font}/U+{ord(character):04X}/{variant}"


def _render(font: ImageFont.FreeTypeFont, character: str, generator: np.random.Generator) -> Image.Image:
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


def png(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
