"""Are the objects that a commit names what it says? What is damaged is named, and made anew from the rows.

Rows themselves cannot be made anew: damage to them is an error that says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmeraser.errors import ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.learning.heads import Statistics
from lmeraser.learning.numerics import deterministic
from lmeraser.state.commit import ClusterEntry, Commit
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist
from lmeraser.state.stored_objects import read_heads, read_specialist
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
        heads = read_heads(store, hash_key, commit)
    except (ObjectCorruptError, ObjectMissingError) as error:
        damaged.append(str(error))
    return Inspection(tuple(clusters), tuple(specialists), heads, tuple(damaged))


def heads_of(tables: Sequence[RowTable], specialists: Sequence[Specialist], head_dim: int, classes: int) -> HeadsState:
    """The heads over all rows and these specialists, summed anew."""
    nothing = Statistics.zero(head_dim, classes)
    with deterministic():
        return HeadsState.of(
            Statistics.of_all(tables, nothing),
            Statistics.of_all(specialists, nothing),
        )
