"""Makes commits: the only code that changes which objects are current."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from actors import regroup
from actors.fail_points import FailPoint, fail_point
from actors.head_sums import HeadSums, sum_of
from actors.ingests import NO_ROWS, AddedRows
from actors.jobs import EmbeddingJob, PromptJob, TuningJob, WrittenFeatures, WrittenPrompt, WrittenRows
from actors.journal import Journal
from actors.owners import Owners, TuningResult
from actors.repair import heads_of, inspect
from actors.requests import Resolution
from actors.row_index import RowIndex
from lmeraser.errors import ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.partition import Dendrogram, cut
from lmeraser.learning.region import RegionIndex
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import Commit, Erasure
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.manifest import Manifest, load_part
from lmeraser.state.rows import RowTable
from lmeraser.state.stored_objects import check_objects, read_rows_of
from lmeraser.store import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Change:
    """A change of the rows.

    Attributes:
        requests: the deletions that are carried out.
        added: the rows that an ingest adds.
    """

    requests: tuple[Resolution, ...] = ()
    added: AddedRows = NO_ROWS

    @property
    def removed(self) -> frozenset[str]:
        """Sample ids of the rows that are erased."""
        return frozenset[str]().union(*(request.rows for request in self.requests))


@dataclass(frozen=True)
class ApplyResult:
    """What one change of rows did to the clusters.

    Attributes:
        ended: keys of the clusters that are no more.
        stopped: the tunings and embeddings that it made pointless, and that were cancelled.
    """

    ended: frozenset[str] = frozenset()
    stopped: tuple[TuningJob, ...] = ()


class Committer:
    """Holds the current commit with its index and heads, and replaces all three together."""

    def __init__(self, store: Store, manifest: Manifest, hash_key: HashKey, journal: Journal, owners: Owners) -> None:
        self._store = store
        self._manifest = manifest
        self._hash_key = hash_key
        self._journal = journal
        self._owners = owners
        self._dendrogram = Dendrogram.from_tensors(load_part(store, manifest, "partition"))
        self.index = RowIndex.of((), manifest.config.seed)
        self._heads: HeadsState | None = None
        self._sums = HeadSums(store, manifest, hash_key)

    @property
    def commit(self) -> Commit | None:
        """The newest commit."""
        return self._journal.history.commit

    def load(self) -> None:
        """Build the index and read the heads of the newest commit; rebuild what is damaged from the rows (decision 8).

        Raises:
            KeysError: when the hash key is not the store's.
            ObjectMissingError, ObjectCorruptError: when rows are not what the commit names.
        """
        if self.commit is None:
            return
        self._manifest.check_hash_key(self.commit.fixed_leaves, self._hash_key)
        try:
            tables = [self._rows_of(entry) for entry in self.commit.clusters]
        except ObjectMissingError:
            # Names everything that is missing, and says what to do.
            check_objects(self._store, self.commit)
            raise
        self.index = RowIndex.of(tables, self._manifest.config.seed)
        inspection = inspect(self._store, self._manifest, self._hash_key, self.commit)
        if inspection.damaged:
            for reason in inspection.damaged:
                _log.error("%s; it is rebuilt from the rows", reason)
            width = load_part(self._store, self._manifest, "features")["projection_FH"].shape[1]
            heads = heads_of(tables, inspection.prompted, width, len(self._manifest.config.labels))
            self._put(self.commit.changed(inspection.clusters), heads)
        else:
            self._heads = inspection.heads

    def apply(self, change: Change) -> ApplyResult:
        """Commit the state after a change of the rows; an empty change commits the state as it is.

        Raises:
            DuplicateSampleError: when the store already holds the sample id of an added row; nothing is changed then.
        """
        removed = self.index.only(change.removed)
        index = self.index.without(change.removed).joined(change.added.index)
        before = self.commit.clusters if self.commit is not None else ()
        with deterministic():
            partition = cut(
                self._dendrogram, index.anchors_N, index.bits_N, self._manifest.config.partition.max_cluster_rows
            )
        regrouping = regroup.regroup(
            before,
            partition,
            removed,
            change.added.objects,
            tuple(request.object for request in change.requests),
            self._journal.position,
        )
        touched = {entry.key for entry in regrouping.replaced}
        ended = {entry.key for entry in regrouping.ended}
        # The tuning of a prompt sees the coreset alone. Whether that stays is known once the rows are written.
        stopped = self._owners.stop_tuning(
            lambda job: job.key in ended or (job.key in touched and isinstance(job, EmbeddingJob))
        )
        written = self._owners.write_rows(regrouping.jobs)
        stopped += self._owners.stop_tuning(lambda job: self._is_pointless(job, written))
        heads = self._heads_after(change, regrouping, written)
        commit = self.commit or Commit((), "", "", self._manifest.leaves(self._hash_key))
        entries = [written[job.region.key].entry for job in regrouping.jobs]
        erasures = self._erasures(change.requests, before)
        self._put(commit.changed(entries, [entry.key for entry in regrouping.ended], erasures), heads)
        self.index = index
        return ApplyResult(frozenset(ended), tuple(stopped))

    def take(self, results: Iterable[TuningResult]) -> None:
        """Commit the prompts of clusters that still have the coreset that they were tuned on, and embedded rows."""
        assert self.commit is not None and self._heads is not None
        commit, pooled = self.commit.changed(()), self._heads.pooled
        points = set()
        for result in results:
            entry = commit.entry(result.job.key)
            if entry is None:
                continue
            if isinstance(result.job, PromptJob) and isinstance(result.written, WrittenPrompt):
                changed = self._prompted(entry, result.job, result.written)
                points.add(FailPoint.PROMPT_COMMITTED)
            elif isinstance(result.job, EmbeddingJob) and isinstance(result.written, WrittenFeatures):
                changed = _embedded(entry, result.job, result.written)
                points.add(FailPoint.FEATURES_COMMITTED)
            else:
                continue
            if changed is not None:
                with deterministic():
                    new = set(changed.segments).difference(entry.segments)
                    pooled = pooled + sum_of(self._sums.prompted(changed, new), pooled)
                commit = commit.changed([changed])
        if commit.root == self.commit.root and commit.clusters == self.commit.clusters:
            return
        with deterministic():
            heads = self._heads.with_pooled(pooled) if pooled is not self._heads.pooled else self._heads
        self._put(commit, heads)
        for point in points:
            fail_point(point)

    def _erasures(self, requests: Sequence[Resolution], before: Iterable[ClusterEntry]) -> tuple[Erasure, ...]:
        regions = RegionIndex(entry.region for entry in before)
        return tuple(
            Erasure(
                request.id,
                tuple(sorted(regroup.clusters_of(self.index.only(request.rows), regions))),
                request.samples,
                request.subjects,
                len(request.rows),
            )
            for request in requests
        )

    def _heads_after(
        self, change: Change, regrouping: regroup.Regrouping, written: Mapping[str, WrittenRows]
    ) -> HeadsState:
        """The heads without the removed rows and the prompted features that end, and with the added rows."""
        added = change.added.statistics
        with deterministic():
            if self._heads is None:
                assert added is not None
                self._heads = HeadsState.empty(len(added.sums_H), len(self._manifest.config.labels))
            shared, pooled = self._heads.shared, self._heads.pooled
            removed = self._sums.removed_from(written)
            shared = shared - sum_of((each.shared for each in removed), shared)
            shared = shared - sum_of(self._sums.rows_of(regrouping.ended, change.removed), shared)
            if added is not None:
                shared = shared + added
            before = self.commit.clusters if self.commit is not None else ()
            unprompted = {
                entry.key
                for entry in regrouping.replaced
                if entry.key not in written or written[entry.key].entry.prompt_object is None
            }
            return HeadsState.of(shared, self._sums.pooled_after(pooled, before, unprompted, removed))

    def _put(self, commit: Commit, heads: HeadsState) -> None:
        """Write the heads, and append the commit that names them."""
        self._journal.append_commit(commit.with_heads(*regroup.put_heads(self._store, self._hash_key, heads)))
        self._heads = heads
        fail_point(FailPoint.COMMIT_APPENDED)

    def _is_pointless(self, job: TuningJob, written: Mapping[str, WrittenRows]) -> bool:
        """Whether a job works on a cluster that has another coreset as written, or is too small to be tuned."""
        if job.key not in written:
            return False
        return self._is_outdated(job, written[job.key].entry)

    def _is_outdated(self, job: TuningJob, entry: ClusterEntry) -> bool:
        return entry.coreset_leaf != job.entry.coreset_leaf or not self._manifest.config.tunes(entry.rows)

    def _prompted(self, entry: ClusterEntry, job: PromptJob, written: WrittenPrompt) -> ClusterEntry | None:
        """The cluster with its prompt; None where it is no longer to be tuned on the coreset of the job."""
        if entry.prompt_object is not None or self._is_outdated(job, entry):
            return None
        return replace(entry, prompt_object=job.target, prompt_leaf=written.leaf)

    def _rows_of(self, entry: ClusterEntry) -> RowTable:
        return read_rows_of(self._store, self._hash_key, self._manifest.config.seed, entry)


def _embedded(entry: ClusterEntry, job: EmbeddingJob, written: WrittenFeatures) -> ClusterEntry | None:
    """The cluster with prompted features of more of its rows; None where it has changed since."""
    if entry != job.entry:
        return None
    features = dict(zip(job.segments, zip(job.targets, written.leaves, strict=True), strict=True))
    segments = (
        segment.with_features(*features[segment]) if segment in features else segment for segment in entry.segments
    )
    return replace(entry, segments=tuple(segments), prompted_leaf=written.prompted_leaf)
