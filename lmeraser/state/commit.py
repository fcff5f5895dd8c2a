"""A commit: the record that names all current objects, and so the state of the system."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

from lmeraser.errors import LogError
from lmeraser.learning.region import Region
from lmeraser.state.layout import HEADS_PART, PARTITION_PART, index_object, prompt_part, prompted_part, rows_part
from lmeraser.state.log import Record
from lmeraser.state.merkle import merkle_root

ClusterState = Literal["tuned", "awaits tuning", "too small"]


@dataclass(frozen=True)
class Segment:
    """Some rows of a cluster in a commit.

    Attributes:
        rows: its number of rows.
        size: bytes of their images and features.
        rows_object: name of the object of its rows; that of its index follows from it.
        leaf: keyed digest of its index, which covers its rows.
        prompted_object, prompted_leaf: name of the object of its rows' prompted features, and their keyed digest; None
            while there are none under the cluster's prompt.
    """

    rows: int
    size: int
    rows_object: str
    leaf: str
    prompted_object: str | None = None
    prompted_leaf: str | None = None

    def without_features(self) -> Segment:
        """The same rows, still to be embedded."""
        return replace(self, prompted_object=None, prompted_leaf=None)

    def with_features(self, prompted_object: str, prompted_leaf: str) -> Segment:
        """The same rows, with prompted features in this object, of this keyed digest."""
        return replace(self, prompted_object=prompted_object, prompted_leaf=prompted_leaf)

    def objects(self) -> tuple[str, ...]:
        """Names of its objects."""
        names = (self.rows_object, index_object(self.rows_object))
        return names if self.prompted_object is None else (*names, self.prompted_object)


def all_embedded(segments: Iterable[Segment]) -> bool:
    """Whether the rows of all these segments have prompted features."""
    return all(segment.prompted_object is not None for segment in segments)


@dataclass(frozen=True)
class ClusterEntry:
    """One prompt cluster in a commit.

    Attributes:
        key: hash of its anchors and bits.
        anchors: the anchors whose rows it holds.
        bits: the leading bits (lmeraser.hashing.row_bits) that its rows share; empty unless it divides one anchor.
        rows: its number of rows.
        segments: what its rows are stored in.
        rows_leaf: keyed digest of its rows.
        coreset_leaf: keyed digest of the rows that its prompt is tuned on.
        prompt_object, prompt_leaf: name of the object of its prompt, and its keyed digest; None while it has none.
        prompted_leaf: keyed digest of the prompted features of its rows; None until all rows have theirs.
    """

    key: str
    anchors: tuple[int, ...]
    bits: str
    rows: int
    segments: tuple[Segment, ...]
    rows_leaf: str
    coreset_leaf: str
    prompt_object: str | None = None
    prompt_leaf: str | None = None
    prompted_leaf: str | None = None

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> ClusterEntry:
        """Read an entry from the record of a commit. Raises KeyError, TypeError."""
        segments = tuple(Segment(**segment) for segment in value["segments"])
        return ClusterEntry(**{**value, "anchors": tuple(value["anchors"]), "segments": segments})

    @cached_property
    def region(self) -> Region:
        """Which rows it holds."""
        return Region(self.anchors, self.bits)

    @property
    def unembedded(self) -> tuple[Segment, ...]:
        """The segments whose rows have no prompted features."""
        return tuple(segment for segment in self.segments if segment.prompted_object is None)

    def state(self, tunes: Callable[[int], bool]) -> ClusterState:
        """Its state; ``tunes`` says whether a cluster with this many rows gets a specialist (StateConfig.tunes)."""
        if self.prompted_leaf is not None:
            return "tuned"
        return "awaits tuning" if tunes(self.rows) else "too small"

    def without_prompt(self) -> ClusterEntry:
        """The same rows, served by the shared head."""
        segments = tuple(segment.without_features() for segment in self.segments)
        return replace(self, segments=segments, prompt_object=None, prompt_leaf=None, prompted_leaf=None)

    def objects(self) -> set[str]:
        """Names of its objects."""
        names = {name for segment in self.segments for name in segment.objects()}
        return names if self.prompt_object is None else {*names, self.prompt_object}


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
            if entry.prompt_leaf is not None:
                leaves[prompt_part(entry.key)] = entry.prompt_leaf
            if entry.prompted_leaf is not None:
                leaves[prompted_part(entry.key)] = entry.prompted_leaf
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
        return {self.heads_object}.union(*(entry.objects() for entry in self.clusters))

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
            clusters = tuple(map(ClusterEntry.from_json, body.pop("clusters")))
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
