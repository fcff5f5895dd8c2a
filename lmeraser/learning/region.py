"""Regions: which rows belong to a prompt cluster.

Legend: N rows.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lmeraser.hashing import canonical_json

# Bits of a row: lmeraser.hashing.row_bits.
BITS = 64


@dataclass(frozen=True)
class Region:
    """The rows at some anchors whose bits have a common beginning.

    Attributes:
        anchors: ascending.
        bits: the beginning, as "0" and "1"; empty for a region of more than one anchor.
    """

    anchors: tuple[int, ...]
    bits: str

    @cached_property
    def key(self) -> str:
        """Sixteen hex digits that name the region and its cluster: a hash of anchors and bits."""
        return hashlib.sha256(canonical_json([list(self.anchors), self.bits])).hexdigest()[:16]

    def holds(self, anchors_N: np.ndarray, bits_N: np.ndarray) -> np.ndarray:
        """Which rows are in the region, bool [N].

        Args:
            anchors_N: int32, nearest anchor of each row.
            bits_N: uint64, bits of each row.
        """
        in_region_N = np.isin(anchors_N, np.array(self.anchors, np.int32))
        if self.bits:
            in_region_N &= bits_N >> np.uint64(BITS - len(self.bits)) == np.uint64(int(self.bits, 2))
        return in_region_N

    def holds_bits(self, bits: int) -> bool:
        """Whether a row with these bits, at one of its anchors, is in the region."""
        return not self.bits or bits >> (BITS - len(self.bits)) == int(self.bits, 2)

    def meets(self, other: Region) -> bool:
        """Whether a row can be in both: an anchor is in both, and the bits of one begin with the other's."""
        same_bits = self.bits.startswith(other.bits) or other.bits.startswith(self.bits)
        return same_bits and not set(self.anchors).isdisjoint(other.anchors)


class RegionIndex:
    """Finds the region of a row among regions that have no row in common."""

    def __init__(self, regions: Iterable[Region]) -> None:
        self._at_anchor: dict[int, list[Region]] = defaultdict(list)
        for region in regions:
            for anchor in region.anchors:
                self._at_anchor[anchor].append(region)

    def key_of(self, anchor: int, bits: int) -> str | None:
        """Key of the region that holds a row with these bits at this anchor; None where none does."""
        text = f"{bits:0{BITS}b}"
        regions = self._at_anchor.get(anchor, ())
        return next((region.key for region in regions if text.startswith(region.bits)), None)

    def keys_of(self, anchors_N: np.ndarray, bits_N: np.ndarray) -> list[str | None]:
        """The same for each of N rows."""
        return list(map(self.key_of, anchors_N.tolist(), bits_N.tolist()))
