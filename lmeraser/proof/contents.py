"""What the objects of a cluster really contain: the leaves of the state that follow from their bytes.

Legend: N rows, H head features.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lmeraser.errors import ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.state.cluster_entry import ClusterEntry, Segment
from lmeraser.state.digests import state_leaf
from lmeraser.state.layout import index_object, prompt_part, prompted_part, rows_part, segment_part
from lmeraser.state.manifest import Manifest
from lmeraser.state.rows import RowTable, rows_digest
from lmeraser.state.segment import SegmentIndex, bytes_leaf, prompted_digest
from lmeraser.state.specialist import Prompt, PromptedFeatures
from lmeraser.store import Store


class Damage(str):
    """Why a leaf cannot be computed: what stands in its place."""


def leaves_of_entry(store: Store, manifest: Manifest, hash_key: HashKey, entry: ClusterEntry) -> dict[str, str]:
    """The leaves of one cluster; Damage in place of one whose objects cannot be read, or contradict each other.

    Args:
        store, manifest, hash_key: where the objects are, and what they were made with.
        entry: the cluster in a commit.
    """
    # Of the rows, as far as they can be read.
    digests = [np.zeros((0, 32), np.uint8)]

    def rows() -> str:
        for segment in entry.segments:
            digests.append(_index_of(store, manifest, hash_key, entry, segment).digests_N32)
        return rows_digest(np.concatenate(digests))

    def prompt() -> str:
        assert entry.prompt_object is not None
        return Prompt.from_safetensors(store.get(entry.prompt_object), entry.prompt_object).digest()

    def prompted() -> str:
        digests_N32 = np.concatenate(digests)
        features_NH = np.concatenate([_features_of(store, entry, segment) for segment in entry.segments])
        if len(digests_N32) != len(features_NH):
            raise ObjectCorruptError(f"cluster {entry.key} has {len(features_NH)} prompted features")
        return prompted_digest(digests_N32, features_NH)

    parts: dict[str, Callable[[], str]] = {rows_part(entry.key): rows}
    if entry.prompt_object is not None:
        parts[prompt_part(entry.key)] = prompt
    if entry.prompted_leaf is not None:
        parts[prompted_part(entry.key)] = prompted
    return {part: _leaf(hash_key, part, digest) for part, digest in parts.items()}


def _leaf(hash_key: HashKey, part: str, digest: Callable[[], str]) -> str:
    try:
        return state_leaf(hash_key, part, digest())
    except (ObjectMissingError, ObjectCorruptError) as error:
        return Damage(error)


def _index_of(
    store: Store, manifest: Manifest, hash_key: HashKey, entry: ClusterEntry, segment: Segment
) -> SegmentIndex:
    """The index that follows from a segment's rows; the stored one must be that, and be what the commit names."""
    data = store.get(segment.rows_object)
    table = RowTable.from_parquet(data, segment.rows_object)
    if bytes_leaf(hash_key, entry.key, data) != segment.bytes_leaf:
        raise ObjectCorruptError(f"{segment.rows_object} does not have the digest that the commit names")
    index = SegmentIndex.of(table, manifest.config.seed, hash_key)
    name = index_object(segment.rows_object)
    stored = SegmentIndex.from_safetensors(store.get(name), name)
    if stored.digest() != index.digest():
        raise ObjectCorruptError(f"{name} is not the index of {segment.rows_object}")
    if state_leaf(hash_key, segment_part(entry.key), index.digest()) != segment.leaf or segment.rows != len(table):
        raise ObjectCorruptError(f"{segment.rows_object} does not have the digest that the commit names")
    return index


def _features_of(store: Store, entry: ClusterEntry, segment: Segment) -> np.ndarray:
    if segment.prompted_object is None:
        raise ObjectCorruptError(f"{segment.rows_object} of cluster {entry.key} has no prompted features")
    data = store.get(segment.prompted_object)
    return PromptedFeatures.from_safetensors(data, segment.prompted_object).features_NH
