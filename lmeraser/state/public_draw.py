"""Which public rows are drawn, where there are too many to keep the features of all (decision 57)."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from lmeraser.config import StateConfig
from lmeraser.data import Sample
from lmeraser.hashing import draw_uint64

# Up to so many rows, the features of all are kept.
WHOLE_ROWS = 8192
# FAISS itself takes at most 256 rows a centroid, and warns below 39.
_ROWS_PER_ANCHOR = 64
_GRID_ROWS = 1024


@dataclass(frozen=True, repr=False)
class PublicDraw:
    """The public rows with the lowest hashes of their sample ids. In which order rows come does not matter.

    Attributes:
        rows: how many public rows there are.
        highest: the highest hash of a row that anchors are fitted to.
        grid_samples: the rows that the grid of the moments is fitted to, by their hash.
    """

    rows: int
    highest: int
    grid_samples: tuple[Sample, ...]

    @staticmethod
    def of(config: StateConfig, samples: Iterable[Sample]) -> PublicDraw:
        """Draw from the public rows, reading them once. Memory: eight bytes a row, and the rows of the grid."""
        hashes = array("Q")
        # The highest hash first.
        lowest: list[tuple[int, int, Sample]] = []
        for number, sample in enumerate(samples):
            hashes.append(row_hash(config, sample))
            entry = (-hashes[-1], number, sample)
            if len(lowest) < _GRID_ROWS:
                heapq.heappush(lowest, entry)
            elif entry > lowest[0]:
                heapq.heapreplace(lowest, entry)
        hashes_N = np.frombuffer(hashes, np.uint64) if hashes else np.zeros(0, np.uint64)
        drawn = min(len(hashes_N), max(WHOLE_ROWS, _ROWS_PER_ANCHOR * config.partition.anchors))
        highest = int(np.partition(hashes_N, drawn - 1)[drawn - 1]) if drawn else -1
        grid_samples = (sample for _, _, sample in sorted(lowest, key=lambda entry: -entry[0]))
        return PublicDraw(len(hashes_N), highest, tuple(grid_samples))

    @property
    def is_whole(self) -> bool:
        """Whether the features of all rows are kept."""
        return self.rows <= WHOLE_ROWS

    def without_samples(self) -> PublicDraw:
        """The same for processes that have the grid."""
        return replace(self, grid_samples=())


def row_hash(config: StateConfig, sample: Sample) -> int:
    """The hash by which a public row is drawn."""
    return draw_uint64(config.seed, "anchor rows", sample.sample_id)
