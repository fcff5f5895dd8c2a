"""Makes commits: the only code that changes which objects are current."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from actors import changes
from actors.index import RowIndex
from actors.journal import Journal
from actors.owners import Owners, TuningResult
from lmeraser.commit import ClusterEntry, Commit
from lmeraser.errors import ObjectCorruptError
from lmeraser.heads_state import HeadsState
from lmeraser.keys import HashKey
from lmeraser.manifest import Manifest, load_part
from lmeraser.numerics import deterministic
from lmeraser.partition import Dendrogram, cut
from lmeraser.rows import RowTable
from lmeraser.specialist import Specialist
from lmeraser.state import state_leaf
from lmeraser.store import Store


@dataclass(frozen=True)
class Applied:
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
        self.index = RowIndex.of((), manifest.method.seed)
        self._heads: HeadsState | None = None

    @property
    def commit(self) -> Commit | None:
        """The newest commit."""
        return self._journal.history.commit

    def load(self) -> None:
        """Build the index and read the heads of the newest commit.

        Raises:
            KeysError: when the hash key is not the store's.
            ObjectMissingError, ObjectCorruptError: when one of its objects is not what it names.
        """
        if self.commit is None:
            return
        self._manifest.check_hash_key(self.commit.fixed_leaves, self._hash_key)
        self.index = RowIndex.of(map(self._rows_of, self.commit.clusters), self._manifest.method.seed)
        name = self.commit.heads_object
        self._heads = HeadsState.from_safetensors(self._store.get(name), name)
        if state_leaf(self._hash_key, "heads", self._heads.digest()) != self.commit.heads_leaf:
            raise ObjectCorruptError(f"{name} does not have the digest that its commit names")

    def apply(
        self,
        erased: Collection[str] = (),
        requests: Sequence[tuple[str, str]] = (),
        incoming: Sequence[str] = (),
        tables: Sequence[RowTable] = (),
    ) -> Applied:
        """Commit the state without the erased rows and with the incoming ones.

        Args:
            erased: sample ids; those that the system does not hold are passed over.
            requests: (id, object name) of the requests that name them.
            incoming: row objects of rows that come.
            tables: their content.

        Raises:
            DuplicateSampleError: when an incoming sample id is in the store already.
        """
        going = self.index.only(erased)
        coming = RowIndex.of(tables, self._manifest.method.seed)
        index = self.index.without(set(erased)).joined(coming)
        before = self.commit.clusters if self.commit is not None else ()
        with deterministic():
            new_cut = cut(
                self._dendrogram, index.anchors_N, index.bits_N, self._manifest.method.partition.max_cluster_rows
            )
        regrouping = changes.regroup(
            before, new_cut, going.joined(coming), tuple(incoming), tuple(name for _, name in requests)
        )
        self._owners.stop_tuning({entry.key for entry in regrouping.left})
        written = self._owners.write_rows(regrouping.jobs)
        heads = self._heads_after(regrouping.left, set(going.sample_ids), tables)
        heads_object, heads_leaf = changes.put_heads(self._store, self._hash_key, heads)
        self._append(
            Commit(
                clusters=changes.regrouped_entries(regrouping, written),
                heads_object=heads_object,
                heads_leaf=heads_leaf,
                fixed_leaves=self._manifest.leaves(self._hash_key),
                cut_leaf=changes.cut_leaf(self._hash_key, new_cut),
                requests=tuple(request_id for request_id, _ in requests),
            ),
            heads,
        )
        self.index = index
        return Applied(regrouping.left, frozenset(written))

    def take_specialists(self, results: Iterable[TuningResult]) -> None:
        """Commit the specialists of clusters whose rows are still those that were tuned on."""
        assert self.commit is not None and self._heads is not None
        commit = replace(self.commit, requests=())
        specialists = []
        for result in results:
            entry = commit.entry(result.job.key)
            if result.written is None or entry is None or entry.rows_leaf != result.job.rows_leaf:
                continue
            name = result.job.target
            specialist = Specialist.from_safetensors(self._store.get(name), name)
            if state_leaf(self._hash_key, f"specialist/{entry.key}", specialist.digest()) != result.written.leaf:
                raise ObjectCorruptError(f"{name} is not what its owner wrote")
            commit = changes.with_specialist(commit, entry.key, name, result.written.leaf)
            specialists.append(specialist)
        if not specialists:
            return
        pooled = self._heads.pooled + changes.statistics_of_specialists(specialists, self._heads.pooled)
        with deterministic():
            heads = HeadsState.of(self._heads.shared, pooled)
        heads_object, heads_leaf = changes.put_heads(self._store, self._hash_key, heads)
        self._append(replace(commit, heads_object=heads_object, heads_leaf=heads_leaf), heads)

    def _heads_after(self, left: Sequence[ClusterEntry], going: set[str], tables: Sequence[RowTable]) -> HeadsState:
        """Subtract the rows that go and the specialists that end; add the rows that come."""
        with deterministic():
            if self._heads is None:
                classes = len(self._manifest.method.labels)
                self._heads = HeadsState.empty(tables[0].features_NH.shape[1], classes)
            shared, pooled = self._heads.shared, self._heads.pooled
            if going:
                shared = shared - changes.statistics_of_rows(map(self._rows_of, left), going, shared)
            shared = shared + changes.statistics_of_rows(tables, None, shared)
            pooled = pooled - changes.statistics_of_specialists(
                (
                    Specialist.from_safetensors(self._store.get(entry.specialist_object), entry.specialist_object)
                    for entry in left
                    if entry.specialist_object is not None
                ),
                pooled,
            )
            return HeadsState.of(shared, pooled)

    def _append(self, commit: Commit, heads: HeadsState) -> None:
        self._journal.append("commit", commit.to_body())
        self._heads = heads

    def _rows_of(self, entry: ClusterEntry) -> RowTable:
        return RowTable.from_parquet(self._store.get(entry.rows_object), entry.rows_object)
