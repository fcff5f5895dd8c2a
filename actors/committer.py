"""Makes commits: the only code that changes which objects are current."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from actors import regroup
from actors.fail_points import FailPoint, fail_point
from actors.head_sums import HeadSums, sum_of
from actors.jobs import EmbeddingJob, PromptJob, TuningJob, WrittenFeatures, WrittenPrompt, WrittenRows
from actors.journal import Journal
from actors.live_partition import LivePartition
from actors.loading import loaded, unmark_damage
from actors.owners import Owners, TuningResult
from actors.row_index import RowIndex
from actors.transition import Change, Transition, heads_leaves
from lmeraser.errors import FencedError
from lmeraser.hashing import HashKey
from lmeraser.learning.numerics import deterministic_alone
from lmeraser.learning.partition import Dendrogram
from lmeraser.parallel import in_parallel
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import NO_HEADS, Commit, StoredHeads
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import HEADS_PART, SUMS_PART, new_heads_object, new_sums_object
from lmeraser.state.manifest import Manifest, load_part
from lmeraser.state.tensors import TensorObject
from lmeraser.store import Store, unfenced


@dataclass(frozen=True)
class ApplyResult:
    """What one change of rows did to the clusters.

    Attributes:
        touched: keys of the clusters that changed, before and after.
        ended: keys of the clusters that are no more.
        stopped: the tunings and embeddings that it made pointless, and that were cancelled.
    """

    touched: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    stopped: tuple[TuningJob, ...] = ()


class Committer:
    """Holds the current commit with its index, partition and heads, and replaces them together.

    Attributes:
        index: the rows of the newest commit.
        partition: the clusters that they are in.
    """

    def __init__(self, store: Store, manifest: Manifest, hash_key: HashKey, journal: Journal, owners: Owners) -> None:
        self._store = store
        self._manifest = manifest
        self._hash_key = hash_key
        self._journal = journal
        self._owners = owners
        self._dendrogram = Dendrogram.from_tensors(load_part(store, manifest, "partition"))
        self.index = RowIndex()
        self.partition = self._partition()
        self._heads: HeadsState | None = None
        self._sums = HeadSums(store, manifest, hash_key)
        # Held while a commit and what follows from it are replaced together.
        self._changing = threading.RLock()

    @property
    def commit(self) -> Commit | None:
        """The newest commit."""
        return self._journal.history.commit

    def load(self) -> None:
        """Read the indexes of all segments and the heads; rebuild what is damaged from the rows (decision 8).

        Raises:
            KeysError: when the hash key is not the store's.
            ObjectMissingError, ObjectCorruptError: when rows are not what the commit names.
        """
        if self.commit is None:
            return
        self._manifest.check_hash_key(self.commit.fixed_leaves, self._hash_key)
        state = loaded(self._store, self._manifest, self._hash_key, self.commit)
        self.index = state.index
        if state.clusters is not None:
            self._put(self.commit.changed(state.clusters), state.heads)
        self._heads = state.heads
        self.partition = self._partition()
        unmark_damage(self._store, self._journal.check)

    def apply(self, change: Change) -> ApplyResult:
        """Commit the state after a change of the rows; an empty change commits the state as it is."""
        transition = self.transition(change)
        touched, ended = transition.touched, transition.ended
        # The tuning of a prompt sees the coreset alone. Whether that stays is known once the rows are written.
        stopped = self._owners.stop_tuning(
            lambda job: job.key in ended or (job.key in touched and isinstance(job, EmbeddingJob))
        )
        written = self._owners.write_rows(transition.regrouping.jobs)
        stopped += self._owners.stop_tuning(lambda job: self._is_pointless(job, written))
        heads = transition.heads_after(written, self._sums)
        with self._changing:
            self._put(transition.commit_after(written), heads)
            self.index.remove(change.removed)
            self.index.add(change.added.indexes)
            self.partition.follow(transition.local, transition.entries(written), transition.regrouping.ended)
        return ApplyResult(touched | written.keys(), ended, tuple(stopped))

    def transition(self, change: Change) -> Transition:
        """What a change of the rows would do to the clusters of the newest commit. Writes nothing."""
        before, heads = self.commit or self._before_the_first(), self._heads or self._no_heads()
        anchors = [index.anchors_N for index in change.added.indexes] or [change.removed.anchors_R]
        sign = 1 if change.added.indexes else -1
        with deterministic_alone():
            local = self.partition.changed(np.concatenate(anchors), sign, lambda anchor: self._bits_at(anchor, change))
        regrouping = regroup.regroup(
            before.by_key,
            local,
            regroup.by_cluster(change.removed, self.partition),
            change.added.objects,
            self._journal.position,
        )
        return Transition(before, heads, change, local, regrouping)

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """Commit, index, partition and heads belong together meanwhile. For threads other than the one that commits."""
        with self._changing:
            yield

    def take(self, results: Iterable[TuningResult]) -> None:
        """Commit the prompts of clusters that still have the coreset that they were tuned on, and embedded rows."""
        assert self.commit is not None and self._heads is not None
        commit, pooled = self.commit.changed(()), self._heads.sums.pooled
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
                with deterministic_alone():
                    new = set(changed.segments).difference(entry.segments)
                    pooled = pooled + sum_of(self._sums.prompted(changed, new), pooled)
                commit = commit.changed([changed])
        if commit.clusters == self.commit.clusters:
            return
        with deterministic_alone():
            heads = self._heads.with_pooled(pooled) if pooled is not self._heads.sums.pooled else self._heads
        self._put(commit, heads)
        for point in points:
            fail_point(point)

    def _put(self, commit: Commit, heads: HeadsState) -> None:
        """Write what changed of the heads and the sums, and append the commit that names them."""
        # What was damaged is written again, although it should be the same.
        before = commit.heads if self._heads is not None else NO_HEADS
        stored = before
        if heads is not self._heads:
            stored = put_heads(self._store, self._manifest.folder, self._hash_key, heads, before)
        with self._changing:
            try:
                self._journal.append_commit(commit.with_heads(stored))
            except FencedError:
                # No commit names them, and the successor, which may be idle, does not know of them.
                for name in sorted(stored.objects() - before.objects()):
                    self._store.purge(name, unfenced)
                raise
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

    def _no_heads(self) -> HeadsState:
        width = load_part(self._store, self._manifest, "features")["projection_FH"].shape[1]
        with deterministic_alone():
            return HeadsState.empty(width, len(self._manifest.config.labels))

    def _before_the_first(self) -> Commit:
        return Commit((), NO_HEADS, self._manifest.leaves(self._hash_key), generation=self._manifest.generation)

    def _partition(self) -> LivePartition:
        clusters = self.commit.clusters if self.commit is not None else ()
        rows_A = self.index.rows_at(self._dendrogram.anchors)
        return LivePartition(self._dendrogram, self._manifest.config.partition.max_cluster_rows, rows_A, clusters)

    def _bits_at(self, anchor: int, change: Change) -> np.ndarray:
        """The bits of the rows at an anchor after a change."""
        remaining = self.index.bits_at(anchor, without=change.removed)
        added = [index.bits_N[index.anchors_N == anchor] for index in change.added.indexes]
        return np.concatenate([remaining, *added])


def put_heads(
    store: Store, folder: str, hash_key: HashKey, state: HeadsState, before: StoredHeads = NO_HEADS
) -> StoredHeads:
    """Write the sums and the heads into the folder of their generation, unless they are those of before.

    Returns:
        Where they are.
    """
    leaves = heads_leaves(hash_key, state)
    stored = before
    changed: dict[str, TensorObject] = {}
    if leaves[SUMS_PART] != before.sums_leaf:
        stored = replace(stored, sums_object=new_sums_object(folder), sums_leaf=leaves[SUMS_PART])
        changed[stored.sums_object] = state.sums
    if leaves[HEADS_PART] != before.heads_leaf:
        stored = replace(stored, heads_object=new_heads_object(folder), heads_leaf=leaves[HEADS_PART])
        changed[stored.heads_object] = state.solved
    in_parallel(lambda name: store.put(name, changed[name].to_safetensors()), changed)
    fail_point(FailPoint.HEADS_WRITTEN)
    return stored


def _embedded(entry: ClusterEntry, job: EmbeddingJob, written: WrittenFeatures) -> ClusterEntry | None:
    """The cluster with prompted features of more of its rows; None where it has changed since."""
    if entry != job.entry:
        return None
    features = dict(zip(job.segments, zip(job.targets, written.leaves, strict=True), strict=True))
    segments = (
        segment.with_features(*features[segment]) if segment in features else segment for segment in entry.segments
    )
    return replace(entry, segments=tuple(segments), prompted_leaf=written.prompted_leaf)
