"""What an owner of a draft takes over from a cluster of the live generation, instead of computing it again (design 7).

The coordinator names such a cluster only if its prompt is the same, bit for bit, because all that a prompt follows from
is the same. A row's features under it are the same if its image is.

Legend: M rows of the live cluster, N rows of the draft's segment, H head features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmeraser.errors import ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.hash_arrays import as_strings
from lmeraser.state.stored_objects import read_index, read_prompt, read_prompted
from lmeraser.store import Store


@dataclass(frozen=True)
class KnownFeatures:
    """Features of rows under one prompt.

    Attributes:
        contents_M: what stands for the rows' ids and images, sorted.
        features_MH: int16, on the grid.
    """

    contents_M: np.ndarray
    features_MH: np.ndarray

    def of(self, contents_N32: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of these rows are known, bool [N], and the features of those that are, in their order."""
        contents_N = as_strings(contents_N32)
        positions_N = np.searchsorted(self.contents_M, contents_N).clip(max=len(self.contents_M) - 1)
        known_N = self.contents_M[positions_N] == contents_N
        return known_N, self.features_MH[positions_N[known_N]]


def known_prompt(store: Store, hash_key: HashKey, origin: ClusterEntry) -> np.ndarray | None:
    """The prompt of a live cluster; None if a change of the live generation has removed it meanwhile."""
    try:
        return read_prompt(store, hash_key, origin).values
    except (ObjectMissingError, ObjectCorruptError):
        return None


def known_features(store: Store, hash_key: HashKey, origin: ClusterEntry) -> KnownFeatures | None:
    """The features of a live cluster's rows under its prompt, so far as they are still there; None if none is."""
    contents, features = [], []
    for segment in origin.segments:
        if segment.prompted_object is None:
            continue
        try:
            index = read_index(store, hash_key, origin.key, segment)
            prompted = read_prompted(store, hash_key, origin.key, segment)
        except (ObjectMissingError, ObjectCorruptError):
            continue
        contents.append(index.contents_N32)
        features.append(prompted.features_NH)
    if not contents:
        return None
    contents_M = as_strings(np.concatenate(contents))
    order = np.argsort(contents_M, kind="stable")
    return KnownFeatures(contents_M[order], np.concatenate(features)[order])
