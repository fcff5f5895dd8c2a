"""Reading the objects that a commit names, and comparing them with their keyed digests.

Every function that reads raises ObjectMissingError when the object is missing, and ObjectCorruptError when its content
does not have the digest that the commit names.
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
    """Read rows.

    Args:
        store, hash_key: where they are, and the key of the digest.
        name: of the object.
        part: the part of the state that the leaf is keyed for, such as ``rows/<cluster>``.
        leaf: the keyed digest that the content must have.
    """
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
    # Imported here: owners read only rows, and solve no heads.
    from lmeraser.state.heads_state import HeadsState

    heads = HeadsState.from_safetensors(store.get(commit.heads_object), commit.heads_object)
    _check(hash_key, commit.heads_object, HEADS_PART, heads.digest(), commit.heads_leaf)
    return heads


def missing_objects(store: Store, commit: Commit) -> tuple[str, ...]:
    """Names of the objects that the commit names and that are not in the store, sorted. No object is read.

    A coordinator that works on the store may have purged them in favour of a newer commit: look for that one first.
    """
    present = {name for folder in DATA_FOLDERS for name in store.names(folder)}
    return tuple(sorted(commit.objects() - present))


def missing_now(store: Store, log: Log, commit: Commit) -> tuple[str, ...]:
    """Like :func:`missing_objects`, for a store that others work on: for the commit that is newest when it is checked.

    Args:
        store: it may change during the call.
        log: of the store; it is advanced.
        commit: the newest commit that the log has read.
    """
    while missing := missing_objects(store, commit):
        newer = newest_commit(log.advance())
        if newer is None:
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
