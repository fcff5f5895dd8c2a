"""A commit: the record that names all current objects, and so the state of the system."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

from lmeraser.errors import LogError
from lmeraser.learning.region import Region
from lmeraser.state.layout import HEADS_PART, PARTITION_PART, rows_part, specialist_part
from lmeraser.state.log import Record
from lmeraser.state.merkle import merkle_root

ClusterState = Literal["tuned", "awaits tuning", "too small"]


@dataclass(frozen=True)
class ClusterEntry:
    """One prompt cluster in a commit.

    Attributes:
        key: hash of its anchors and bits.
        anchors: the anchors whose rows it holds.
        bits: the leading bits (lmeraser.hashing.row_bits) that its rows share; empty unless it divides one anchor.
        rows: its number of rows.
        rows_object, rows_leaf: name of its rows' object, and their keyed digest.
        specialist_object, specialist_leaf: the same for its specialist; None while it has none.
    """

    key: str
    anchors: tuple[int, ...]
    bits: str
    rows: int
    rows_object: str
    rows_leaf: str
    specialist_object: str | None = None
    specialist_leaf: str | None = None

    @cached_property
    def region(self) -> Region:
        """Which rows it holds."""
        return Region(self.anchors, self.bits)

    def state(self, tunes: Callable[[int], bool]) -> ClusterState:
        """Its state; ``tunes`` says whether a cluster with this many rows gets a specialist (StateConfig.tunes)."""
        if self.specialist_object is not None:
            return "tuned"
        return "awaits tuning" if tunes(self.rows) else "too small"

    def without_specialist(self) -> ClusterEntry:
        """The same rows, served by the shared head."""
        return replace(self, specialist_object=None, specialist_leaf=None)


@dataclass(frozen=True)
class Erasure:
    """The effect of a deletion in the commit that leaves its rows out.

    Attributes:
        id: of the deletion.
        clusters: keys of those clusters of the previous commit that held its rows.
        rows: how many rows it removes, not counting those that an earlier deletion removed while this one waited.
        samples, subjects: keyed hashes of rows and subjects that it covers in addition to those in the record of its
            request, because an ingest added rows after the request was accepted.
    """

    id: str
    clusters: tuple[str, ...] = ()
    samples: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    rows: int = 0

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Erasure:
        """Read an erasure from the record of a commit. Raises KeyError, TypeError."""
        clusters, samples, subjects = (tuple(value[name]) for name in ("clusters", "samples", "subjects"))
        return Erasure(value["id"], clusters, samples, subjects, value["rows"])


@dataclass(frozen=True)
class Commit:
    """The current objects.

    Attributes:
        clusters: sorted by key.
        heads_object, heads_leaf: statistics and solved heads.
        fixed_leaves: leaves that do not depend on private rows: configuration, public artifacts, fingerprint.
        partition_leaf: keyed digest of the partition.
        erasures: the deletions whose rows this commit is the first to leave out.
        number: its record's number in the log; 0 before it is appended. Not part of the state.
    """

    clusters: tuple[ClusterEntry, ...]
    heads_object: str
    heads_leaf: str
    fixed_leaves: Mapping[str, str]
    partition_leaf: str
    erasures: tuple[Erasure, ...] = ()
    number: int = 0

    def leaves(self) -> dict[str, str]:
        """The leaves of the state root, by part."""
        leaves = {**self.fixed_leaves, PARTITION_PART: self.partition_leaf, HEADS_PART: self.heads_leaf}
        for entry in self.clusters:
            leaves[rows_part(entry.key)] = entry.rows_leaf
            if entry.specialist_leaf is not None:
                leaves[specialist_part(entry.key)] = entry.specialist_leaf
        return leaves

    @cached_property
    def root(self) -> str:
        """The state root."""
        return merkle_root(self.leaves())

    @cached_property
    def rows(self) -> int:
        """How many rows the system has."""
        return sum(entry.rows for entry in self.clusters)

    def entry(self, key: str) -> ClusterEntry | None:
        """The cluster with this key; None when there is none."""
        return self._entries.get(key)

    @property
    def requests(self) -> tuple[str, ...]:
        """Ids of the deletions whose rows this commit is the first to leave out."""
        return tuple(erasure.id for erasure in self.erasures)

    def objects(self) -> set[str]:
        """The names of all objects that this commit names."""
        names = {self.heads_object}
        for entry in self.clusters:
            names.add(entry.rows_object)
            if entry.specialist_object is not None:
                names.add(entry.specialist_object)
        return names

    def to_body(self) -> dict[str, Any]:
        """The commit as the body of a log record."""
        body = asdict(self)
        del body["number"]
        body["fixed_leaves"] = dict(self.fixed_leaves)
        return {**body, "root": self.root}

    @staticmethod
    def from_record(record: Record) -> Commit:
        """Read a record of kind "commit".

        Raises:
            LogError: when its body is not a commit, or its root is not that of its leaves.
        """
        body = dict(record.body)
        try:
            root = body.pop("root")
            clusters = tuple(
                ClusterEntry(**{**entry, "anchors": tuple(entry["anchors"])}) for entry in body.pop("clusters")
            )
            erasures = tuple(map(Erasure.from_json, body.pop("erasures")))
            commit = Commit(**body, clusters=clusters, erasures=erasures, number=record.number)
        except (KeyError, TypeError) as error:
            raise LogError(f"log record {record.number} is not a commit: {error!r}") from error
        if commit.root != root:
            raise LogError(f"log record {record.number} names the root {root}, but its leaves give {commit.root}")
        return commit

    @cached_property
    def _entries(self) -> dict[str, ClusterEntry]:
        return {entry.key: entry for entry in self.clusters}


def commits_in(records: Iterable[Record]) -> list[Commit]:
    """The commits among these records, oldest first. Raises LogError as :meth:`Commit.from_record` does."""
    return [Commit.from_record(record) for record in records if record.kind == "commit"]


def newest_commit(records: Sequence[Record]) -> Commit | None:
    """The last commit among these records; None when there is none. Raises LogError when a body is malformed."""
    newest = next((record for record in reversed(records) if record.kind == "commit"), None)
    return Commit.from_record(newest) if newest is not None else None
