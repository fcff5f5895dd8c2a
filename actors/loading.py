"""What a start reads of the newest commit: the indexes of all segments, the prompts and the heads, and no rows.

Damage to other objects is found where they are read. Whoever finds it leaves a mark in the store, and the next start
reads everything and rebuilds what is damaged from the rows (actors.repair, decision 8). What is missing is found at
once, by listing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain

from actors.repair import inspect
from actors.row_index import RowIndex
from lmeraser.errors import ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import Commit
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import DAMAGED
from lmeraser.state.manifest import Manifest
from lmeraser.state.stored_objects import check_objects, missing_objects, read_heads_state, read_index, read_prompt
from lmeraser.store import Fence, Store

# A bucket takes tens of milliseconds per object.
_READERS = 16
# Indexes that may be in memory while they wait to be taken up.
_AT_ONCE = 128


@dataclass(frozen=True)
class LoadedState:
    """The state in memory that follows from a commit.

    Attributes:
        index: all rows.
        heads: sums and heads.
        clusters: the commit's entries without what is damaged; None if nothing is.
    """

    index: RowIndex
    heads: HeadsState
    clusters: tuple[ClusterEntry, ...] | None


def mark_damage(store: Store, error: Exception) -> None:
    """Have the next start look for damage; ``error`` says what was found."""
    store.put(DAMAGED, str(error).encode())


def unmark_damage(store: Store, fence: Fence) -> None:
    """Remove the mark, once what was damaged is rebuilt."""
    store.purge(DAMAGED, fence)


def loaded(store: Store, manifest: Manifest, hash_key: HashKey, commit: Commit) -> LoadedState:
    """Read what a commit names, as far as a start needs it.

    Raises:
        ObjectMissingError: when rows are missing; the message names everything that is, and what to do.
        ObjectCorruptError: when rows are damaged.
    """
    if not store.exists(DAMAGED):
        try:
            return _read(store, hash_key, commit)
        except (ObjectCorruptError, ObjectMissingError):
            # Which objects are damaged, the inspection says.
            pass
    try:
        return _inspected(store, manifest, hash_key, commit)
    except ObjectMissingError:
        check_objects(store, commit)
        raise


def _read(store: Store, hash_key: HashKey, commit: Commit) -> LoadedState:
    segments = [(entry.key, segment) for entry in commit.clusters for segment in entry.segments]
    prompted = [entry for entry in commit.clusters if entry.prompt_object is not None]
    with ThreadPoolExecutor(_READERS, thread_name_prefix="start") as readers:
        # What is not read is listed meanwhile.
        missing = readers.map(lambda each: missing_objects(store, each), [commit])
        heads = readers.map(lambda each: read_heads_state(store, hash_key, each), [commit])
        list(readers.map(lambda entry: read_prompt(store, hash_key, entry), prompted))
        parts = (segments[start : start + _AT_ONCE] for start in range(0, len(segments), _AT_ONCE))
        read = (readers.map(lambda each: read_index(store, hash_key, *each), part) for part in parts)
        index = RowIndex(chain.from_iterable(read), commit.rows)
        for names in filter(None, missing):
            raise ObjectMissingError(f"{names[0]} is missing")
        return LoadedState(index, next(iter(heads)), None)


def _inspected(store: Store, manifest: Manifest, hash_key: HashKey, commit: Commit) -> LoadedState:
    inspection = inspect(store, manifest, hash_key, commit)
    index = RowIndex(inspection.indexes, commit.rows)
    return LoadedState(index, inspection.heads, inspection.clusters if inspection.damaged else None)
