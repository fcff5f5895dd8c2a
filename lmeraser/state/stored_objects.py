"""Reading the objects that a commit names, and comparing them with their keyed digests.

Every function that reads raises ObjectMissingError when the object is missing, and ObjectCorruptError when its content
does not have the digest that the commit names.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from lmeraser.errors import ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.parallel import in_parallel
from lmeraser.state.cluster_entry import ClusterEntry, Segment
from lmeraser.state.commit import Commit, newest_commit
from lmeraser.state.digests import state_leaf
from lmeraser.state.layout import (
    HEADS_PART,
    INCOMING_PART,
    SUMS_PART,
    data_folders,
    features_part,
    generation_folder,
    index_object,
    prompt_part,
    removed_part,
    segment_part,
)
from lmeraser.state.log import Log
from lmeraser.state.rows import RowTable, order_of
from lmeraser.state.segment import SegmentIndex, bytes_leaf
from lmeraser.state.specialist import FeaturesOfRows, Prompt, PromptedFeatures, RemovedFeatures, Specialist
from lmeraser.store import Store

if TYPE_CHECKING:
    from lmeraser.state.heads_state import HeadsState, SolvedHeads

# How many missing objects an error names.
_NAMED = 10


def read_added(store: Store, hash_key: HashKey, name: str, leaf: str) -> RowTable:
    """Rows of an ingest: the object of this name, with this keyed digest."""
    rows = RowTable.from_parquet(store.get(name), name)
    _check(hash_key, name, INCOMING_PART, rows.digest(), leaf)
    return rows


def read_segment(store: Store, hash_key: HashKey, key: str, segment: Segment) -> RowTable:
    """The rows of a segment of the cluster ``key``."""
    data = store.get(segment.rows_object)
    if bytes_leaf(hash_key, key, data) != segment.bytes_leaf:
        raise ObjectCorruptError(f"{segment.rows_object} does not have the digest that the commit names")
    return RowTable.from_parquet(data, segment.rows_object)


def read_index(store: Store, hash_key: HashKey, key: str, segment: Segment) -> SegmentIndex:
    """The index of a segment of the cluster ``key``."""
    name = index_object(segment.rows_object)
    index = SegmentIndex.from_safetensors(store.get(name), name)
    _check(hash_key, name, segment_part(key), index.digest(), segment.leaf)
    return index


def read_rows_of(store: Store, hash_key: HashKey, entry: ClusterEntry) -> RowTable:
    """All rows of a cluster of a commit."""
    tables = [read_segment(store, hash_key, entry.key, segment) for segment in entry.segments]
    return RowTable.concatenate(tables, tables[0].features_NH.shape[1] if tables else 0)


def read_prompt(store: Store, hash_key: HashKey, entry: ClusterEntry) -> Prompt:
    """The prompt of a cluster that has one."""
    assert entry.prompt_object is not None
    prompt = Prompt.from_safetensors(store.get(entry.prompt_object), entry.prompt_object)
    _check(hash_key, entry.prompt_object, prompt_part(entry.key), prompt.digest(), entry.prompt_leaf)
    return prompt


def read_prompted(store: Store, hash_key: HashKey, key: str, segment: Segment) -> PromptedFeatures:
    """The prompted features of a segment of the cluster ``key`` that has them."""
    assert segment.prompted_object is not None
    features = PromptedFeatures.from_safetensors(store.get(segment.prompted_object), segment.prompted_object)
    _check(hash_key, segment.prompted_object, features_part(key), features.digest(), segment.prompted_leaf)
    return features


def read_features(store: Store, hash_key: HashKey, key: str, segment: Segment) -> FeaturesOfRows:
    """The prompted features of a segment that has them, with the labels of its rows."""
    prompted = read_prompted(store, hash_key, key, segment)
    return FeaturesOfRows(prompted.features_NH, read_index(store, hash_key, key, segment).labels_N)


def read_cluster(store: Store, hash_key: HashKey, entry: ClusterEntry) -> tuple[RowTable, Specialist | None]:
    """All rows of a cluster of a commit, and its specialist if it is tuned."""
    tables = [read_segment(store, hash_key, entry.key, segment) for segment in entry.segments]
    rows = RowTable.concatenate(tables, 0)
    if entry.prompted_leaf is None:
        return rows, None
    if entry.prompt_object is None or entry.unembedded:
        raise ObjectCorruptError(f"cluster {entry.key} has a digest of prompted features, but not all of the features")
    features_NH = np.concatenate(
        [read_prompted(store, hash_key, entry.key, segment).features_NH for segment in entry.segments]
    )
    if len(features_NH) != len(rows):
        raise ObjectCorruptError(f"cluster {entry.key} has {len(rows)} rows, but {len(features_NH)} prompted features")
    return rows, Specialist(read_prompt(store, hash_key, entry).values, features_NH[order_of(tables)], rows.labels_N)


def read_removed(store: Store, hash_key: HashKey, key: str, name: str, leaf: str) -> RemovedFeatures:
    """Features of removed rows of the cluster ``key``."""
    removed = RemovedFeatures.from_safetensors(store.get(name), name)
    _check(hash_key, name, removed_part(key), removed.digest(), leaf)
    return removed


def read_heads(store: Store, hash_key: HashKey, commit: Commit) -> SolvedHeads:
    """The heads of a commit."""
    # Imported here: owners read only rows, and solve no heads.
    from lmeraser.state.heads_state import SolvedHeads

    name = commit.heads.heads_object
    heads = SolvedHeads.from_safetensors(store.get(name), name)
    _check(hash_key, name, HEADS_PART, heads.digest(), commit.heads.heads_leaf)
    return heads


def read_heads_state(store: Store, hash_key: HashKey, commit: Commit) -> HeadsState:
    """The heads of a commit, and the sums behind them."""
    from lmeraser.state.heads_state import HeadsState, Sums

    name = commit.heads.sums_object
    sums = Sums.from_safetensors(store.get(name), name)
    _check(hash_key, name, SUMS_PART, sums.digest(), commit.heads.sums_leaf)
    return HeadsState(sums, read_heads(store, hash_key, commit))


def missing_objects(store: Store, commit: Commit) -> tuple[str, ...]:
    """Names of the objects that the commit names and that are not in the store, sorted. No object is read.

    A coordinator that works on the store may have purged them in favour of a newer commit: look for that one first.
    """
    folders = data_folders(generation_folder(commit.generation))
    present = set(chain.from_iterable(in_parallel(store.names, folders)))
    return tuple(sorted(commit.objects() - present))


def missing_now(store: Store, log: Log, commit: Commit) -> tuple[str, ...]:
    """Like :func:`missing_objects`, for a store that others work on: for the commit that is newest when it is checked.

    Args:
        store: it may change during the call.
        log: of the store; it is advanced.
        commit: the newest commit that the log has read.
    """
    while missing := missing_objects(store, commit):
        newer = newest_commit(log.advance(), commit)
        if newer is commit or newer is None:
            return missing
        commit = newer
    return ()


def check_objects(store: Store, commit: Commit) -> None:
    """Check that all objects that the commit names are in the store.

    Raises:
        ObjectMissingError: when some are not; the message names them, and what to do.
    """
    if missing := missing_objects(store, commit):
        raise ObjectMissingError(
            f"{len(missing)} of the {len(commit.objects())} objects that commit {commit.number} names are missing from "
            f"{store.uri}: {', '.join(missing[:_NAMED])}{', …' if len(missing) > _NAMED else ''}. Put them back from a "
            "copy of the store, or restore an older copy with the log of this one: `lmeraser log mirror`, then "
            "`lmeraser restore`"
        )


def _check(hash_key: HashKey, name: str, part: str, digest: str, leaf: str | None) -> None:
    if state_leaf(hash_key, part, digest) != leaf:
        raise ObjectCorruptError(f"{name} does not have the digest that the commit names")
