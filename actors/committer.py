"""Makes commits: the only code that changes which objects are current."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from actors import regroup
from actors.fail_points import FailPoint, fail_point
from actors.ingests import Arrived
from actors.journal import Journal
from actors.owners import Owners, TuningResult
from actors.repair import heads_of, inspect
from actors.requests import Resolution
from actors.row_index import RowIndex
from lmeraser.errors import ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.learning.heads import Statistics
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.partition import Dendrogram, cut
from lmeraser.learning.region import RegionIndex
from lmeraser.state.commit import ClusterEntry, Commit, Erasure
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.manifest import Manifest, load_part
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist
from lmeraser.state.stored_objects import check_objects, read_rows_of, read_specialist
from lmeraser.store import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApplyResult:
    """What one change of rows did.

    Attributes:
        left: entries that were touched or are no more.
        touched: keys of the clusters whose rows were written anew.
    """

    left: tuple[ClusterEntry, ...]
    touched: frozenset[str]

    @property
    def left_keys(self) -> frozenset[str]:
        """Keys of the entries that were touched or are no more."""
        return frozenset(entry.key for entry in self.left)


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

    @property
    def commit(self) -> Commit | None:
        """The newest commit."""
        return self._journal.history.commit

    def load(self) -> None:
        """Build the index and read the heads of the newest commit; mend what the rows allow.

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
            # All that is gone, and what to do.
            check_objects(self._store, self.commit)
            raise
        self.index = RowIndex.of(tables, self._manifest.config.seed)
        found = inspect(self._store, self._hash_key, self.commit)
        if found.damaged:
            for reason in found.damaged:
                _log.error("%s; it is made anew from the rows", reason)
            width = load_part(self._store, self._manifest, "features")["projection_FH"].shape[1]
            heads = heads_of(tables, found.specialists, width, len(self._manifest.config.labels))
            self._put(replace(self.commit, clusters=found.clusters, erasures=()), heads)
        else:
            self._heads = found.heads

    def apply(self, requests: Sequence[Resolution] = (), arrived: Arrived | None = None) -> ApplyResult:
        """Commit the state without the rows of the requests and with the incoming ones.

        Args:
            requests: what is erased.
            arrived: the rows that come.

        Raises:
            DuplicateSampleError: when an incoming sample id is in the store already; nothing is changed then.
        """
        erased = frozenset[str]().union(*(request.rows for request in requests))
        going = self.index.only(erased)
        index = self.index.without(erased)
        if arrived is not None:
            index = index.joined(arrived.index)
        before = self.commit.clusters if self.commit is not None else ()
        with deterministic():
            partition = cut(
                self._dendrogram, index.anchors_N, index.bits_N, self._manifest.config.partition.max_cluster_rows
            )
        regrouping = regroup.regroup(
            before,
            partition,
            going,
            arrived.objects if arrived is not None else (),
            tuple(request.object for request in requests),
            self._journal.position,
        )
        self._owners.stop_tuning({entry.key for entry in regrouping.left})
        written = self._owners.write_rows(regrouping.jobs)
        heads = self._heads_after(regrouping.left, set(going.sample_ids), arrived)
        self._put(
            Commit(
                clusters=regroup.regrouped_entries(regrouping, written),
                heads_object="",
                heads_leaf="",
                fixed_leaves=self._manifest.leaves(self._hash_key),
                partition_leaf=regroup.partition_leaf(self._hash_key, partition),
                erasures=self._erasures(requests, before),
            ),
            heads,
        )
        self.index = index
        return ApplyResult(regrouping.left, frozenset(written))

    def take_specialists(self, results: Iterable[TuningResult]) -> None:
        """Commit the specialists of clusters whose rows are still those that were tuned on."""
        assert self.commit is not None and self._heads is not None
        commit = replace(self.commit, erasures=())
        specialists = []
        for result in results:
            entry = commit.entry(result.job.key)
            if result.written is None or entry is None or entry.rows_leaf != result.job.rows_leaf:
                continue
            tuned = replace(entry, specialist_object=result.job.target, specialist_leaf=result.written.leaf)
            commit = regroup.with_entry(commit, tuned)
            specialists.append(self._specialist(tuned))
        if not specialists:
            return
        pooled = self._heads.pooled + Statistics.of_all(specialists, self._heads.pooled)
        with deterministic():
            heads = self._heads.with_pooled(pooled)
        self._put(commit, heads)
        fail_point(FailPoint.SPECIALIST_COMMITTED)

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

    def _heads_after(self, left: Sequence[ClusterEntry], going: set[str], arrived: Arrived | None) -> HeadsState:
        """Subtract the rows that go and the specialists that end; add the rows that come."""
        with deterministic():
            if self._heads is None:
                assert arrived is not None and arrived.statistics is not None
                self._heads = HeadsState.empty(len(arrived.statistics.sums_H), len(self._manifest.config.labels))
            shared = self._heads.shared
            if going:
                shared = shared - regroup.statistics_of_rows(map(self._rows_of, left), going, shared)
            if arrived is not None and arrived.statistics is not None:
                shared = shared + arrived.statistics
            return HeadsState.of(shared, self._pooled_without(left))

    def _pooled_without(self, left: Sequence[ClusterEntry]) -> Statistics:
        """Subtract the specialists that end, or add up those that stay: both give the same integers."""
        assert self._heads is not None
        gone = {entry.key for entry in left}
        tuned = [
            entry for entry in (self.commit.clusters if self.commit else ()) if entry.specialist_object is not None
        ]
        ending = [entry for entry in tuned if entry.key in gone]
        staying = [entry for entry in tuned if entry.key not in gone]
        fewer = min(ending, staying, key=lambda entries: sum(entry.rows for entry in entries))
        statistics = Statistics.of_all(map(self._specialist, fewer), self._heads.pooled)
        return self._heads.pooled - statistics if fewer is ending else statistics

    def _put(self, commit: Commit, heads: HeadsState) -> None:
        """Write the heads, and append the commit that names them."""
        heads_object, heads_leaf = regroup.put_heads(self._store, self._hash_key, heads)
        self._journal.append("commit", replace(commit, heads_object=heads_object, heads_leaf=heads_leaf).to_body())
        self._heads = heads
        fail_point(FailPoint.COMMIT_APPENDED)

    def _rows_of(self, entry: ClusterEntry) -> RowTable:
        return read_rows_of(self._store, self._hash_key, entry)

    def _specialist(self, entry: ClusterEntry) -> Specialist:
        assert entry.specialist_object is not None
        return read_specialist(self._store, self._hash_key, entry.key, entry.specialist_object, entry.specialist_leaf)
