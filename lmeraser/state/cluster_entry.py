"""One prompt cluster in a commit: its rows, prompt and prompted features, by the names and digests of their objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

from lmeraser.learning.region import Region
from lmeraser.state.layout import index_object, prompt_part, prompted_part, rows_part

ClusterState = Literal["tuned", "awaits tuning", "too small"]


@dataclass(frozen=True)
class Segment:
    """Some rows of a cluster in a commit.

    Attributes:
        rows: its number of rows.
        size: bytes of their images and features.
        rows_object: name of the object of its rows; that of its index follows from it.
        bytes_leaf: keyed digest of the bytes of the object of its rows.
        leaf: keyed digest of its index, which covers its rows.
        prompted_object, prompted_leaf: name of the object of its rows' prompted features, and their keyed digest; None
            while there are none under the cluster's prompt.
    """

    rows: int
    size: int
    rows_object: str
    bytes_leaf: str
    leaf: str
    prompted_object: str | None = None
    prompted_leaf: str | None = None

    def without_features(self) -> Segment:
        """The same rows, still to be embedded."""
        return replace(self, prompted_object=None, prompted_leaf=None)

    def with_features(self, prompted_object: str, prompted_leaf: str) -> Segment:
        """The same rows, with prompted features in this object, of this keyed digest."""
        return replace(self, prompted_object=prompted_object, prompted_leaf=prompted_leaf)

    def below(self, folder: str) -> Segment:
        """The same segment, as seen from the folder that ``folder`` is in."""
        prompted_object = None if self.prompted_object is None else f"{folder}{self.prompted_object}"
        return replace(self, rows_object=f"{folder}{self.rows_object}", prompted_object=prompted_object)

    def objects(self) -> tuple[str, ...]:
        """Names of its objects."""
        names = (self.rows_object, index_object(self.rows_object))
        return names if self.prompted_object is None else (*names, self.prompted_object)


def _segment_to_json(segment: Segment, known: Mapping[Segment, int]) -> int | list[Any]:
    return known[segment] if segment in known else list(astuple(segment))


def _segment_from_json(value: int | list[Any], known: Sequence[Segment]) -> Segment:
    if not isinstance(value, int):
        return Segment(*value)
    if not 0 <= value < len(known):
        raise IndexError(f"there is no segment {value} in the commit before")
    return known[value]


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
        coreset_contents: keyed digest of all that a tuning reads of these rows (lmeraser.state.provenance), by which
            another generation knows whether a prompt would be the same.
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
    coreset_contents: str
    prompt_object: str | None = None
    prompt_leaf: str | None = None
    prompted_leaf: str | None = None

    @staticmethod
    def from_json(value: Mapping[str, Any], before: ClusterEntry | None) -> ClusterEntry:
        """Read an entry from the record of a commit, given what the commit before it has of this cluster.

        Raises:
            KeyError, TypeError, ValueError, IndexError: when it is malformed.
        """
        segments = tuple(_segment_from_json(each, before.segments if before else ()) for each in value["segments"])
        entry = ClusterEntry(**{**value, "anchors": tuple(value["anchors"]), "segments": segments})
        if entry.region.key != entry.key:
            raise ValueError(f"the key {entry.key} is not that of its anchors and bits")
        return entry

    def to_json(self, before: ClusterEntry | None) -> dict[str, Any]:
        """The entry for a record; segments that the commit before has too are given by their position there."""
        known = {segment: position for position, segment in enumerate(before.segments)} if before else {}
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            **values,
            "anchors": list(self.anchors),
            "segments": [_segment_to_json(segment, known) for segment in self.segments],
        }

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

    def below(self, folder: str) -> ClusterEntry:
        """The same cluster, as seen from the folder that ``folder`` is in."""
        prompt_object = None if self.prompt_object is None else f"{folder}{self.prompt_object}"
        return replace(
            self, segments=tuple(segment.below(folder) for segment in self.segments), prompt_object=prompt_object
        )

    def leaves(self) -> dict[str, str]:
        """Its leaves of the state root, by part."""
        leaves = {rows_part(self.key): self.rows_leaf}
        if self.prompt_leaf is not None:
            leaves[prompt_part(self.key)] = self.prompt_leaf
        if self.prompted_leaf is not None:
            leaves[prompted_part(self.key)] = self.prompted_leaf
        return leaves

    def objects(self) -> set[str]:
        """Names of its objects."""
        names = {name for segment in self.segments for name in segment.objects()}
        return names if self.prompt_object is None else {*names, self.prompt_object}
