"""The bundled rows in four colours: digits on grain, and clean glyphs."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from sklearn.datasets import load_digits

from lmeraser.config import SourceConfig
from lmeraser.data import Sample, decode_image, open_source

# Channels that are brightest in an ink.
BRIGHTEST = {"red": {0}, "green": {1}, "blue": {2}, "yellow": {0, 1}}


def brightest(row: Sample) -> set[int]:
    totals_3 = decode_image(row.image, 32).sum(axis=(1, 2), dtype=np.int64)
    return set(np.flatnonzero(totals_3 == totals_3.max()).tolist())


def digits(split: str) -> tuple[list[Sample], tuple[str, ...]]:
    source = open_source(SourceConfig("coloured_digits", split=split))
    return list(source.samples(source.labels)), source.labels


@pytest.mark.slow
def test_each_digit_is_in_one_split_under_its_own_label_in_two_colours_or_all_four() -> None:
    (train, labels), (test, _) = digits("train"), digits("test")
    targets = load_digits().target
    colours_of_train, colours_of_test = (Counter(row.subject_id for row in rows) for rows in (train, test))
    assert not colours_of_train.keys() & colours_of_test.keys()
    assert colours_of_train.keys() | colours_of_test.keys() == {f"digit-{index:04d}" for index in range(1797)}
    assert set(colours_of_train.values()) == {2} and set(colours_of_test.values()) == {4}
    assert 1797 / 4 < len(colours_of_test) < 1797 / 2
    for row in (*train, *test):
        colour, digit = labels[row.label].split()
        assert row.sample_id == f"{row.subject_id}/{colour}"
        assert int(digit) == targets[int(row.sample_id[6:10])]
    counts = Counter(labels[row.label].split()[0] for row in train)
    assert counts.keys() == BRIGHTEST.keys() and min(counts.values()) > len(train) / 5


@pytest.mark.slow
def test_a_digit_is_in_its_colour_on_grain_that_is_different_each_time() -> None:
    rows, labels = digits("test")
    levels = load_digits().images
    grounds = set()
    for row in rows[:100]:
        assert brightest(row) == BRIGHTEST[labels[row.label].split()[0]]
        brightness_PP = decode_image(row.image, 32).max(axis=0)
        ink_PP = levels[int(row.sample_id[6:10])].repeat(4, axis=0).repeat(4, axis=1) >= 12
        assert brightness_PP[ink_PP].mean() > 200 > brightness_PP.mean()
        # The left edge shows no ink: all shades of the ground.
        edge_P = brightness_PP[:, 0]
        assert edge_P.max() > 170 and edge_P.min() < 85
        grounds.add(edge_P.tobytes())
    assert len(grounds) == 100


def test_glyphs_are_the_plain_ones_in_four_colours_on_black() -> None:
    plain, coloured = (open_source(SourceConfig(kind)) for kind in ("glyphs", "coloured_glyphs"))
    assert plain.labels == coloured.labels and plain.count() == coloured.count()
    inks = Counter[frozenset[int]]()
    for before, after in itertools.islice(
        zip(plain.samples(plain.labels), coloured.samples(coloured.labels), strict=True), 80
    ):
        assert (before.sample_id, before.label) == (after.sample_id, after.label)
        np.testing.assert_allclose(decode_image(after.image, 8).max(axis=0), decode_image(before.image, 8)[0], atol=1)
        inks[frozenset(brightest(after))] += 1
    assert inks.keys() == set(map(frozenset, BRIGHTEST.values()))
