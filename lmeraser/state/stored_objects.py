"""Objects that a commit names: named, and read and compared with their keyed digests.

Every function that reads raises ObjectMissingError when the object is gone, and ObjectCorruptError when it is not what
the commit names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmeraser.errors import ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.state.commit import ClusterEntry, Commit, newest_commit
from lmeraser.state.digests import state_leaf
from lmeraser.state.layout import DATA_FOLDERS, HEADS_PART, rows_part, specialist_part
from lmeraser.state.log import Log
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist
from lmeraser.store import Store

if TYPE_CHECKING:
    from lmeraser.state.heads_state import HeadsState

# How many missing objects an error names.
_NAMED = 10


def read_rows(store: Store, hash_key: HashKey, name: str, part: str, leaf: str) -> RowTable:
    """Rows; ``part`` is the part of the state that they are, such as ``rows/<cluster>``."""
    rows = RowTable.from_parquet(store.get(name), name)
    _check(hash_key, name, part, rows.digest(), leaf)
    return rows


def read_rows_of(store: Store, hash_key: HashKey, entry: ClusterEntry) -> RowTable:
    """The rows of a cluster of a commit."""
    return read_rows(store, hash_key, entry.rows_object, rows_part(entry.key), entry.rows_leaf)


def read_specialist(store: Store, hash_key: HashKey, key: str, name: str, leaf: str | None) -> Specialist:
    """The specialist of the cluster ``key``."""
    specialist = Specialist.from_safetensors(store.get(name), name)
    _check(hash_key, name, specialist_part(key), specialist.digest(), leaf)
    return specialist


def read_heads(store: Store, hash_key: HashKey, commit: Commit) -> HeadsState:
    """The heads of a commit."""
    # Owners read rows alone, and solve nothing.
    from lmeraser.state.heads_state import HeadsState

    heads = HeadsState.from_safetensors(store.get(commit.heads_object), commit.heads_object)
    _check(hash_key, commit.heads_object, HEADS_PART, heads.digest(), commit.heads_leaf)
    return heads


def missing_objects(store: Store, commit: Commit) -> tuple[str, ...]:
    """The names of objects that the commit names and the store does not hold, sorted; none of them is read.

    A coordinator that works on the store may have purged them in favour of a newer commit: look for that one first.
    """
    held = {name for folder in DATA_FOLDERS for name in store.names(folder)}
    return tuple(sorted(commit.objects() - held))


def missing_now(store: Store, log: Log, commit: Commit) -> tuple[str, ...]:
    """Like :func:`missing_objects`, of a store that others work on: of the newest commit by the time it was looked at.

    Args:
        store: may be changed meanwhile.
        log: the store's; it is advanced.
        commit: the newest that the log has shown.
    """
    while missing := missing_objects(store, commit):
        newer = newest_commit(log.advance())
        if newer is None:
            return missing
        commit = newer
    return ()


def check_objects(store: Store, commit: Commit) -> None:
    """Check that the store holds all that the commit names.

    Raises:
        ObjectMissingError: when it does not; names the objects, and what to do.
    """
    if missing := missing_objects(store, commit):
        raise ObjectMissingError(
            f"{len(missing)} of the {len(commit.objects())} objects that commit {commit.number} names are gone from "
            f"{store.uri}: {', '.join(missing[:_NAMED])}{', …' if len(missing) > _NAMED else ''}. Put them back from a "
            "copy of the store, or restore an older copy with the log of this one: `lmeraser log mirror`, then "
            "`lmeraser restore`"
        )


def _check(hash_key: HashKey, name: str, part: str, digest: str, leaf: str | None) -> None:
    if state_leaf(hash_key, part, digest) != leaf:
        raise ObjectCorruptError(f"{name} does not have the digest that its commit names")
