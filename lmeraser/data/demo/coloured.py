"""Bundled rows in four colours: handwritten digits on grain as private rows, and clean printed glyphs as public ones.

A private row is a digit of scikit-learn in coloured ink. The ground is grain of the same colour, as bright in places as
the ink, and its label is colour and digit ("red 3"). Every digit to train on occurs in two colours, and every one for
the test in all four, each time on grain of its own; all its rows have one subject. The public rows are the glyphs in
the same four inks on black, without any grain.

So the ink's colour, which an early block sees, says in which prompt cluster a row belongs, and each cluster has classes
of its own. What the backbone never saw is the grain, and that is what a prompt can be tuned against.

Legend: P pixels per side.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from lmeraser.data.demo.bundled import DIGITS, GlyphsSource, digit_id, digit_image, png
from lmeraser.data.label_index import LabelIndex
from lmeraser.data.parts import PartedSource, Piece, ranges_of
from lmeraser.data.sample import Sample
from lmeraser.hashing import draw_uint64

# Shares of red, green and blue in the ink.
COLOURS = {"red": (1.0, 0.3, 0.3), "green": (0.3, 1.0, 0.3), "blue": (0.4, 0.4, 1.0), "yellow": (1.0, 1.0, 0.3)}
_NAMES = tuple(COLOURS)
# Colours in which each digit of a split occurs.
_COPIES = {"train": 2, "test": len(_NAMES)}
_IMAGE_PX = 32
# Side of a grain.
_GRAIN_PX = 2
# One digit in this number is for the test.
_TEST_SHARE = 3


class ColouredDigitsSource(PartedSource[range]):
    """Every digit in several colours, on grain; one digit in three, drawn by a hash, is for the test."""

    labels = tuple(f"{colour} {digit}" for colour in _NAMES for digit in range(10))

    def __init__(self, split: str) -> None:
        """The rows of a split, "train" or "test"."""
        super().__init__()
        digits = [row for row in range(DIGITS) if _is_test_digit(row) == (split == "test")]
        self._rows = [(row, colour) for row in digits for colour in _colours_of(row, _COPIES[split])]

    def _pieces(self) -> Sequence[Piece[range]]:
        return ranges_of("coloured digits", len(self._rows))

    def _ids(self, content: range, labels: tuple[str, ...]) -> Iterator[str]:  # noqa: ARG002
        return (_row_id(*self._rows[row]) for row in content)

    def _read(self, content: range, labels: tuple[str, ...]) -> Iterator[Sample]:
        label_index = LabelIndex(labels)
        digits = load_digits()
        for row, colour in self._rows[content.start : content.stop]:
            sample_id = _row_id(row, colour)
            label = label_index.of_name(f"{colour} {digits.target[row]}", f"sample {sample_id!r}")
            brightness_PP = _on_grain(digit_image(digits.images[row]), sample_id)
            yield Sample(sample_id, digit_id(row), label, png(_in_colour(brightness_PP, colour)))


class ColouredGlyphsSource(GlyphsSource):
    """The glyphs, each in one of the four colours on black, drawn by a hash of its sample id."""

    def _read(self, content: range, labels: tuple[str, ...]) -> Iterator[Sample]:
        for sample in super()._read(content, labels):
            colour = _NAMES[draw_uint64(0, "ink", sample.sample_id) % len(_NAMES)]
            with Image.open(io.BytesIO(sample.image)) as image:
                brightness_PP = np.asarray(image, np.float64) / 255
            yield replace(sample, image=png(_in_colour(brightness_PP, colour)))


def _row_id(row: int, colour: str) -> str:
    return f"{digit_id(row)}/{colour}"


def _is_test_digit(row: int) -> bool:
    return draw_uint64(0, "digits", digit_id(row)) % _TEST_SHARE == 0


def _colours_of(row: int, copies: int) -> list[str]:
    first = draw_uint64(0, "ink", digit_id(row))
    return [_NAMES[(first + copy) % len(_NAMES)] for copy in range(copies)]


def _on_grain(digit: Image.Image, sample_id: str) -> np.ndarray:
    """Brightness from 0 to 1: full where the ink is, uniformly random in every grain of the ground."""
    generator = np.random.Generator(np.random.PCG64(draw_uint64(0, "grain", sample_id)))
    grains = _IMAGE_PX // _GRAIN_PX
    ground_PP = generator.uniform(size=(grains, grains)).repeat(_GRAIN_PX, axis=0).repeat(_GRAIN_PX, axis=1)
    resized = digit.resize((_IMAGE_PX, _IMAGE_PX), Image.Resampling.BICUBIC)
    ink_PP: np.ndarray = np.asarray(resized, np.float64) / 255
    return ink_PP + (1 - ink_PP) * ground_PP


def _in_colour(brightness_PP: np.ndarray, colour: str) -> Image.Image:
    return Image.fromarray(np.rint(255 * brightness_PP[..., None] * COLOURS[colour]).astype(np.uint8))
