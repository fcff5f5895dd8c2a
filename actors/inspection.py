"""Are the objects that a commit names what it says? What is damaged is named, and made anew from the rows.

Rows themselves cannot be made anew: damage to them is an error that says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors import changes
from lmeraser.commit import ClusterEntry, Commit
from lmeraser.errors import ObjectCorruptError, ObjectMissingError
from lmeraser.heads import Statistics
from lmeraser.heads_state import HeadsState
from lmeraser.keys import HashKey
from lmeraser.numerics import deterministic
from lmeraser.rows import RowTable
from lmeraser.specialist import Specialist
from lmeraser.state import state_leaf
from lmeraser.store import Store


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        clusters: the commit's entries, those without a specialist whose own is damaged.
        specialists: the sound ones.
        heads: None when they are damaged.
        damaged: what is damaged, in words.
    """

    clusters: tuple[ClusterEntry, ...]
    specialists: tuple[Specialist, ...]
    heads: HeadsState | None
    damaged: tuple[str, ...]


def inspect(store: Store, hash_key: HashKey, commit: Commit) -> Inspection:
    """Read heads and specialists, and compare them with their digests."""
    clusters: list[ClusterEntry] = []
    specialists: list[Specialist] = []
    damaged: list[str] = []
    for entry in commit.clusters:
        if entry.specialist_object is not None:
            try:
                specialists.append(
                    read_specialist(store, hash_key, entry.key, entry.specialist_object, entry.specialist_leaf)
                )
            except (ObjectCorruptError, ObjectMissingError) as error:
                damaged.append(str(error))
                entry = entry.without_specialist()
        clusters.append(entry)
    heads = None
    try:
        heads = HeadsState.from_safetensors(store.get(commit.heads_object), commit.heads_object)
        if state_leaf(hash_key, "heads", heads.digest()) != commit.heads_leaf:
            raise ObjectCorruptError(f"{commit.heads_object} does not have the digest that its commit names")
    except (ObjectCorruptError, ObjectMissingError) as error:
        damaged.append(str(error))
    return Inspection(tuple(clusters), tuple(specialists), heads, tuple(damaged))


def read_specialist(store: Store, hash_key: HashKey, key: str, name: str, leaf: str | None) -> Specialist:
    """A cluster's specialist, checked.

    Raises:
        ObjectMissingError: when it is gone.
        ObjectCorruptError: when it does not have its digest.
    """
    specialist = Specialist.from_safetensors(store.get(name), name)
    if state_leaf(hash_key, f"specialist/{key}", specialist.digest()) != leaf:
        raise ObjectCorruptError(f"{name} does not have the digest that its commit names")
    return specialist


def heads_of(tables: Sequence[RowTable], specialists: Sequence[Specialist], head_dim: int, classes: int) -> HeadsState:
    """The heads over all rows and these specialists, summed anew."""
    nothing = Statistics.zero(head_dim, classes)
    with deterministic():
        return HeadsState.of(
            changes.statistics_of_rows(tables, None, nothing),
            changes.statistics_of_specialists(specialists, nothing),
        )
