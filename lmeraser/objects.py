"""Objects that a commit names: named, and read and compared with their keyed digests.

Every function that reads raises ObjectMissingError when the object is gone, and ObjectCorruptError when it is not what
the commit names.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from lmeraser.commit import Commit
from lmeraser.errors import ObjectCorruptError
from lmeraser.keys import HashKey
from lmeraser.rows import RowTable
from lmeraser.specialist import Specialist
from lmeraser.state import state_leaf
from lmeraser.store import Store

if TYPE_CHECKING:
    from lmeraser.heads_state import HeadsState


def object_name(folder: str, suffix: str) -> str:
    """A name in a folder, such as ``rows/<cluster>``, that is never used again."""
    return f"{folder}/{uuid.uuid4().hex}.{suffix}"


def read_rows(store: Store, hash_key: HashKey, name: str, part: str, leaf: str) -> RowTable:
    """Rows; ``part`` is the part of the state that they are, such as ``rows/<cluster>``."""
    rows = RowTable.from_parquet(store.get(name), name)
    _check(hash_key, name, part, rows.digest(), leaf)
    return rows


def read_specialist(store: Store, hash_key: HashKey, key: str, name: str, leaf: str | None) -> Specialist:
    """The specialist of the cluster ``key``."""
    specialist = Specialist.from_safetensors(store.get(name), name)
    _check(hash_key, name, f"specialist/{key}", specialist.digest(), leaf)
    return specialist


def read_heads(store: Store, hash_key: HashKey, commit: Commit) -> HeadsState:
    """The heads of a commit."""
    # Owners read rows alone, and solve nothing.
    from lmeraser.heads_state import HeadsState

    heads = HeadsState.from_safetensors(store.get(commit.heads_object), commit.heads_object)
    _check(hash_key, commit.heads_object, "heads", heads.digest(), commit.heads_leaf)
    return heads


def _check(hash_key: HashKey, name: str, part: str, digest: str, leaf: str | None) -> None:
    if state_leaf(hash_key, part, digest) != leaf:
        raise ObjectCorruptError(f"{name} does not have the digest that its commit names")
