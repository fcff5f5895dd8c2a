"""What the coordinator has the owners do, and what they answer. Neither holds private rows or their features."""

from __future__ import annotations

from dataclasses import dataclass

from lmeraser.learning.region import Region
from lmeraser.state.cluster_entry import ClusterEntry, Segment
from lmeraser.state.log import Position


@dataclass(frozen=True)
class RowObject:
    """An object with rows of an ingest, and their keyed digest."""

    name: str
    leaf: str


@dataclass(frozen=True)
class RowsJob:
    """Write a cluster's rows: only the segments that change.

    Attributes:
        region: which rows.
        entry: the same cluster before; None if there was none.
        sources: other clusters of the last commit, some of whose rows move in.
        added: objects with rows of an ingest, some of which are the cluster's.
        removed: keyed hashes of the samples of the rows to leave out, 32 bytes each.
        position: the coordinator's position in the log.
    """

    region: Region
    entry: ClusterEntry | None
    sources: tuple[ClusterEntry, ...]
    added: tuple[RowObject, ...]
    removed: bytes
    position: Position


@dataclass(frozen=True)
class WrittenRows:
    """A cluster whose rows were written.

    Attributes:
        entry: the cluster from now on. It keeps its prompt exactly if its coreset is the same.
        removed_object, removed_leaf: name of the object with the features of the rows that it lost, and their keyed
            digest; None if there was no such cluster before.
    """

    entry: ClusterEntry
    removed_object: str | None = None
    removed_leaf: str | None = None


@dataclass(frozen=True)
class PromptJob:
    """Tune a cluster's prompt on its coreset.

    Attributes:
        entry: the cluster.
        target: name of the object to write.
        position: the coordinator's position in the log.
        origin: a cluster of another generation whose prompt would be the same.
    """

    entry: ClusterEntry
    target: str
    position: Position
    origin: ClusterEntry | None = None

    @property
    def key(self) -> str:
        """The cluster."""
        return self.entry.key

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the objects to write. The first one names the job."""
        return (self.target,)


@dataclass(frozen=True)
class EmbeddingJob:
    """Compute the features of some of a cluster's rows under its prompt.

    Attributes:
        entry: the cluster.
        segments: those of its segments whose rows have no prompted features yet, at least one.
        targets: names of the objects to write, one for each segment.
        position: the coordinator's position in the log.
        origin: a cluster of another generation under the same prompt.
    """

    entry: ClusterEntry
    segments: tuple[Segment, ...]
    targets: tuple[str, ...]
    position: Position
    origin: ClusterEntry | None = None

    @property
    def key(self) -> str:
        """The cluster."""
        return self.entry.key


TuningJob = PromptJob | EmbeddingJob


@dataclass(frozen=True)
class WrittenPrompt:
    """A prompt that was written, by its keyed digest."""

    leaf: str


@dataclass(frozen=True)
class WrittenFeatures:
    """Prompted features that were written.

    Attributes:
        leaves: the keyed digest of each segment's features.
        prompted_leaf: that of the features of all rows of the cluster; None while other segments have none.
    """

    leaves: tuple[str, ...]
    prompted_leaf: str | None
