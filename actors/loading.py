"""What a start reads of the newest commit: the indexes of all segments, the prompts and the heads, and no rows.

Damage to other objects is found where they are read. Whoever finds it leaves a mark in the store, and the next start
reads everything and rebuilds what is damaged from the rows (actors.repair, decision 8). What is missing is found at
once, by listing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from actors.repair import inspect
from actors.row_index import RowIndex
from lmeraser.errors import ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import Commit
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import DAMAGED
from lmeraser.state.manifest import Manifest
from lmeraser.state.stored_objects import check_objects, missing_objects, read_heads, read_index, read_prompt
from lmeraser.store import Fence, Store

# A bucket takes tens of milliseconds per object.
_READERS = 16


@dataclass(frozen=True)
class LoadedState:
    """The state in memory that follows from a commit.

    Attributes:
        index: all rows.
        heads: sums and heads.
        clusters: the commit's entries without what is damaged; None if nothing is.
        store: where it was read from.
    """

    index: RowIndex
    heads: HeadsState
    clusters: tuple[ClusterEntry, ...] | None
    store: Store

    def settle(self, fence: Fence) -> None:
        """Remove the mark of damage, once what was damaged is rebuilt."""
        self.store.purge(DAMAGED, fence)


def mark_damage(store: Store, error: Exception) -> None:
    """Have the next start look for damage; ``error`` says what was found."""
    store.put(DAMAGED, str(error).encode())


def loaded(store: Store, manifest: Manifest, hash_key: HashKey, commit: Commit) -> LoadedState:
    """Read what a commit names, as far as a start needs it.

    Raises:
        ObjectMissingError: when rows are missing; the message names everything that is, and what to do.
        ObjectCorruptError: when rows are damaged.
    """
    if not (store.exists(DAMAGED) or missing_objects(store, commit)):
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
        heads = readers.map(lambda each: read_heads(store, hash_key, each), [commit])
        list(readers.map(lambda entry: read_prompt(store, hash_key, entry), prompted))
        index = RowIndex(readers.map(lambda each: read_index(store, hash_key, *each), segments))
        return LoadedState(index, next(iter(heads)), None, store)


def _inspected(store: Store, manifest: Manifest, hash_key: HashKey, commit: Commit) -> LoadedState:
    inspection = inspect(store, manifest, hash_key, commit)
    return LoadedState(
        RowIndex(inspection.indexes), inspection.heads, inspection.clusters if inspection.damaged else None, store
    )
