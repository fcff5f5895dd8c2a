"""Regions against a plain reading of the rule: an anchor of the region, and bits that begin with the region's."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lmeraser.learning.region import BITS, Region, RegionIndex

# A busy machine is no reason to fail.
unhurried = settings(deadline=None)

BITS_OF_ROWS = st.sampled_from([0, 1, 2**63, 2**62, 2**64 - 1]) | st.integers(0, 2**64 - 1)
ROWS = st.lists(st.tuples(st.integers(0, 3), BITS_OF_ROWS), max_size=20)


def regions() -> st.SearchStrategy[Region]:
    several = st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True)
    whole = several.map(lambda anchors: Region(tuple(sorted(anchors)), ""))
    beginnings = st.tuples(BITS_OF_ROWS, st.integers(0, BITS)).map(lambda pair: format(pair[0], "064b")[: pair[1]])
    return whole | st.builds(lambda anchor, bits: Region((anchor,), bits), st.integers(0, 3), beginnings)


def in_region(region: Region, anchor: int, bits: int) -> bool:
    return anchor in region.anchors and format(bits, "064b").startswith(region.bits)


@unhurried
@given(regions(), ROWS)
def test_a_region_holds_the_rows_at_its_anchors_whose_bits_begin_with_its_own(
    region: Region, rows: list[tuple[int, int]]
) -> None:
    anchors_N = np.array([anchor for anchor, _ in rows], np.int32)
    bits_N = np.array([bits for _, bits in rows], np.uint64)
    expected = [in_region(region, *row) for row in rows]
    assert region.holds(anchors_N, bits_N).tolist() == expected
    keys = RegionIndex([region]).keys_of(anchors_N, bits_N)
    assert keys == [region.key if inside else None for inside in expected]


@unhurried
@given(regions(), regions())
def test_regions_meet_where_a_row_can_be_in_both(one: Region, other: Region) -> None:
    # The row most likely in both: at each anchor, with the longer of the two beginnings.
    bits = int(max(one.bits, other.bits, key=len).ljust(BITS, "0"), 2)
    shared = any(in_region(one, anchor, bits) and in_region(other, anchor, bits) for anchor in range(4))
    assert one.meets(other) == other.meets(one) == shared
