"""A commit: the record that makes a state current.

The record names only what changed since the commit before it, so that a deletion costs the same whatever the store
holds; the commit itself, in memory, names all current objects. It is read by replaying records, from the start of the
log or from a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from lmeraser.errors import LogError
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.layout import HEADS_PART, SUMS_PART, generation_folder
from lmeraser.state.log import Record
from lmeraser.state.merkle import MerkleTree


@dataclass(frozen=True)
class Erasure:
    """The effect of a deletion in the commit that leaves its rows out.

    Attributes:
        id: of the deletion.
        clusters: keys of those clusters of the previous commit that held its rows; only in the first commit that
            removes some of them.
        rows: how many rows this commit removes, not counting those that an earlier deletion removed while this one
            waited.
        remaining: whether later commits remove the other rows that it covers.
        samples, subjects: keyed hashes of rows and subjects that it covers in addition to those in the record of its
            request, because an ingest added rows after the request was accepted.
    """

    id: str
    clusters: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    rows: int = 0
    remaining: bool = False

    def followed_by(self, later: Erasure) -> Erasure:
        """This part of an erasure and a later one together."""
        samples, subjects = {*self.samples, *later.samples}, {*self.subjects, *later.subjects}
        rows = self.rows + later.rows
        return Erasure(self.id, self.clusters, tuple(sorted(samples)), tuple(sorted(subjects)), rows, later.remaining)

    def to_json(self) -> dict[str, Any]:
        """For the record of a commit. What is empty, 0 or false is left out: a commit may erase for 1000 requests."""
        return {name: value for name, value in asdict(self).items() if value}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Erasure:
        """Read an erasure from the record of a commit. Raises TypeError when it has no id, or an unknown field."""
        fields: dict[str, Any] = {name: tuple(each) if isinstance(each, list) else each for name, each in value.items()}
        return Erasure(**fields)


@dataclass(frozen=True)
class StoredHeads:
    """The names of the objects of the heads and of the sums behind them, and their keyed digests."""

    heads_object: str
    heads_leaf: str
    sums_object: str
    sums_leaf: str

    def leaves(self) -> dict[str, str]:
        """Their leaves of the state root, by part."""
        return {HEADS_PART: self.heads_leaf, SUMS_PART: self.sums_leaf}

    def below(self, folder: str) -> StoredHeads:
        """The same heads, as seen from the folder that ``folder`` is in."""
        return replace(self, heads_object=f"{folder}{self.heads_object}", sums_object=f"{folder}{self.sums_object}")

    def objects(self) -> set[str]:
        """The names of their objects."""
        return {self.heads_object, self.sums_object}


NO_HEADS = StoredHeads("", "", "", "")


@dataclass(frozen=True)
class Commit:
    """The current objects.

    Attributes:
        clusters: sorted by key. They are the partition: a cluster's key is a hash of its region.
        heads: where the heads and the sums behind them are.
        fixed_leaves: leaves that do not depend on private rows: configuration, public artifacts, fingerprint.
        erasures: the deletions whose rows this commit is the first to leave out.
        number: its record's number in the log; 0 before it is appended. Not part of the state.
        generation: whose objects they are; "" for the first generation. Not part of the state.
    """

    clusters: tuple[ClusterEntry, ...]
    heads: StoredHeads
    fixed_leaves: Mapping[str, str]
    erasures: tuple[Erasure, ...] = ()
    number: int = 0
    generation: str = ""

    def leaves(self) -> dict[str, str]:
        """The leaves of the state root, by part."""
        leaves = {**self.fixed_leaves, **self.heads.leaves()}
        for entry in self.clusters:
            leaves |= entry.leaves()
        return leaves

    @cached_property
    def tree(self) -> MerkleTree:
        """The Merkle tree over the leaves."""
        return MerkleTree.of(self.leaves())

    @property
    def root(self) -> str:
        """The state root."""
        return self.tree.root

    @cached_property
    def rows(self) -> int:
        """How many rows the system has."""
        return sum(entry.rows for entry in self.clusters)

    @cached_property
    def unembedded(self) -> tuple[ClusterEntry, ...]:
        """The clusters some of whose rows have no prompted features, sorted by key."""
        return tuple(entry for entry in self.clusters if entry.prompted_leaf is None)

    def is_of_generation_of(self, other: Commit) -> bool:
        """Whether both are of the same generation."""
        return self.generation == other.generation and dict(self.fixed_leaves) == dict(other.fixed_leaves)

    def entry(self, key: str) -> ClusterEntry | None:
        """The cluster with this key; None when there is none."""
        return self.by_key.get(key)

    @cached_property
    def by_key(self) -> Mapping[str, ClusterEntry]:
        """The clusters by their keys."""
        return {entry.key: entry for entry in self.clusters}

    @cached_property
    def by_coreset_contents(self) -> Mapping[str, ClusterEntry]:
        """The clusters that have a prompt, by the contents of their coresets."""
        return {entry.coreset_contents: entry for entry in self.clusters if entry.prompt_object is not None}

    @property
    def requests(self) -> tuple[str, ...]:
        """Ids of the deletions whose rows this commit is the first to leave out."""
        return tuple(erasure.id for erasure in self.erasures)

    def objects(self) -> set[str]:
        """The names of all objects that this commit names."""
        return self.heads.objects().union(*(entry.objects() for entry in self.clusters))

    def changed(
        self, entries: Iterable[ClusterEntry], removed: Iterable[str] = (), erasures: tuple[Erasure, ...] = ()
    ) -> Commit:
        """The commit with these entries added or replaced, and without the removed keys; it is not appended yet.

        Hashes only what changed.
        """
        by_key = dict(self.by_key)
        tree = self.tree
        for key in removed:
            tree = tree.changed({}, by_key.pop(key).leaves())
        for entry in entries:
            leaves, before = entry.leaves(), by_key.get(entry.key)
            tree = tree.changed(leaves, before.leaves().keys() - leaves if before is not None else ())
            by_key[entry.key] = entry
        clusters = tuple(by_key[key] for key in sorted(by_key))
        return replace(self, clusters=clusters, erasures=erasures, number=0)._with_caches(tree, by_key)

    def with_heads(self, heads: StoredHeads) -> Commit:
        """The commit with other heads."""
        return replace(self, heads=heads)._with_caches(self.tree.changed(heads.leaves()), self.by_key)

    def promoted(self, generation: str) -> Commit:
        """This commit of a draft as one of the store that the draft is in (design 7)."""
        folder = generation_folder(generation)
        entries = tuple(entry.below(folder) for entry in self.clusters)
        heads = self.heads.below(folder)
        return replace(self, clusters=entries, heads=heads, erasures=(), number=0, generation=generation)

    def to_body(self, previous: Commit | None = None) -> dict[str, Any]:
        """The commit as the body of a log record.

        Args:
            previous: the commit that comes before it in the log; without it, the body names everything.
        """
        if previous is not None and not previous.is_of_generation_of(self):
            previous = None
        before = previous.by_key if previous is not None else {}
        return {
            "previous": previous.number if previous is not None else None,
            "clusters": [
                entry.to_json(before.get(entry.key))
                for entry in self.clusters
                if entry is not before.get(entry.key) and entry != before.get(entry.key)
            ],
            "removed": sorted(before.keys() - self.by_key.keys()),
            "heads": asdict(self.heads) if previous is None or previous.heads != self.heads else None,
            "generation": self.generation if previous is None else None,
            "fixed_leaves": dict(self.fixed_leaves) if previous is None else None,
            "erasures": [erasure.to_json() for erasure in self.erasures],
            "root": self.root,
        }

    @staticmethod
    def from_record(record: Record, previous: Commit | None = None) -> Commit:
        """Read a record of kind "commit".

        Args:
            record: the record.
            previous: the commit that comes before it in the log; None before the first. A record that names everything
                does not need it.

        Raises:
            LogError: when its body is not a commit, or follows from another one, or its root is not that of its leaves.
        """
        return Commit.from_body(record.body, record.number, previous)

    @staticmethod
    def from_body(body: Mapping[str, Any], number: int, previous: Commit | None = None) -> Commit:
        """Read the body of the record with this number; see :meth:`from_record`."""
        try:
            follows = body["previous"]
            heads = None if body["heads"] is None else StoredHeads(**body["heads"])
            if follows is None:
                if heads is None:
                    raise ValueError("it follows from no commit, and names no heads")
                previous = Commit((), heads, body["fixed_leaves"], generation=body["generation"])
            elif previous is None or previous.number != follows:
                raise LogError(f"log record {number} follows from commit {follows}, which is not the one before it")
            commit = previous.changed(
                [ClusterEntry.from_json(value, previous.entry(value["key"])) for value in body["clusters"]],
                body["removed"],
                tuple(map(Erasure.from_json, body["erasures"])),
            )
            commit = commit if heads is None else commit.with_heads(heads)
            root = body["root"]
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise LogError(f"log record {number} is not a commit: {error!r}") from error
        if commit.root != root:
            raise LogError(f"log record {number} names the root {root}, but its leaves give {commit.root}")
        return replace(commit, number=number)._with_caches(commit.tree, commit.by_key)

    def _with_caches(self, tree: MerkleTree, by_key: Mapping[str, ClusterEntry]) -> Commit:
        """This commit, for which these are known already."""
        self.__dict__["tree"] = tree
        self.__dict__["by_key"] = by_key
        return self


def commits_in(records: Iterable[Record], previous: Commit | None = None) -> list[Commit]:
    """The commits among these records, oldest first.

    Args:
        records: without a gap, from the start of the log or from after ``previous``.
        previous: the newest commit before these records; None when there is none.

    Raises:
        LogError: as :meth:`Commit.from_record` does.
    """
    commits: list[Commit] = []
    for record in records:
        if record.kind == "commit":
            previous = Commit.from_record(record, previous)
            commits.append(previous)
    return commits


def newest_commit(records: Iterable[Record], previous: Commit | None = None) -> Commit | None:
    """The last commit among these records, else ``previous``; see :func:`commits_in`."""
    for record in records:
        if record.kind == "commit":
            previous = Commit.from_record(record, previous)
    return previous
