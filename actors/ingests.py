"""The rows of an ingest: how they are written below a prefix, and which of them are new when they are added.

Each row object has a companion, written before it, that holds only keyed hashes of its ids: so one can find out whether
a row is being erased without reading any image.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from actors.erased_hashes import ErasedHashes
from actors.jobs import RowObject
from actors.live_partition import LivePartition
from actors.log_replay import History
from actors.row_index import RowIndex
from lmeraser.config import StateConfig
from lmeraser.errors import DuplicateSampleError, ObjectMissingError
from lmeraser.hashing import HashKey, row_hashes, sample_hash
from lmeraser.ids import comparable
from lmeraser.learning.heads import Statistics
from lmeraser.state.commit import Commit
from lmeraser.state.digests import state_leaf
from lmeraser.state.layout import INCOMING_PART
from lmeraser.state.rows import RowTable
from lmeraser.state.segment import SegmentIndex
from lmeraser.state.stored_objects import read_index
from lmeraser.store import Store

COMPANION = ".ids"
_ROWS = ".parquet"
# Suffix of an object with only the rows that are added, where some of the original's are not.
_REST = ".rest"


@dataclass(frozen=True)
class IngestOutcome:
    """What became of an ingest's rows.

    Attributes:
        added: rows that are new.
        present: rows that the store already held, or that came before, equal in every byte.
        erased: rows left out because they, or their subjects, were named in a deletion before.
    """

    added: int
    present: int
    erased: int


@dataclass(frozen=True)
class PendingIngest:
    """One ingest that waits to be added.

    Attributes:
        prefix: where its row objects are.
        begun: number of the newest log record when it began.
        force: whether it may bring back rows that were erased before it began.
        outcome: what became of its rows.
    """

    prefix: str
    begun: int
    force: bool
    outcome: Future[IngestOutcome] = field(default_factory=Future)

    def resolve(self, outcome: IngestOutcome | Exception) -> None:
        """Report what became of its rows, or why none was added."""
        if isinstance(outcome, IngestOutcome):
            self.outcome.set_result(outcome)
        else:
            self.outcome.set_exception(outcome)


@dataclass(frozen=True)
class AddedRows:
    """What the coordinator needs to know of the new rows of an ingest: all but their images and features.

    Attributes:
        objects: the row objects, each with the index of its rows.
        statistics: the shared head's statistics of all rows; None if there are no rows.
        present, erased: how many rows are left out, see :class:`IngestOutcome`.
    """

    objects: tuple[tuple[RowObject, SegmentIndex], ...]
    statistics: Statistics | None
    present: int
    erased: int

    @property
    def indexes(self) -> tuple[SegmentIndex, ...]:
        """The indexes of all row objects."""
        return tuple(index for _, index in self.objects)

    @property
    def rows(self) -> int:
        """How many rows are new."""
        return sum(map(len, self.indexes))


NOTHING_ADDED = AddedRows((), None, 0, 0)


def put_rows(store: Store, hash_key: HashKey, name: str, table: RowTable) -> None:
    """Write rows below the prefix of an ingest, as ``<name>.parquet`` with its companion."""
    store.put(f"{name}{COMPANION}", short_hashes(_hashes(hash_key, table)).tobytes())
    store.put(f"{name}{_ROWS}", table.to_parquet())


def short_hashes(hashes: Iterable[str]) -> np.ndarray:
    """uint64: the first eight bytes of keyed hashes, sorted. Two ids collide once in 10^19."""
    return np.sort(np.array([int(each[:16], 16) for each in hashes], "<u8"))


def read_incoming(
    store: Store,
    ingest: PendingIngest,
    history: History,
    hash_key: HashKey,
    config: StateConfig,
    index: RowIndex,
    partition: LivePartition,
) -> AddedRows:
    """The new rows of an ingest, read object by object.

    Args:
        store, hash_key, config: the store's.
        ingest: the ingest to read.
        history: gives the newest commit, and what was erased.
        index, partition: the rows of the newest commit.

    Raises:
        ObjectMissingError: when an object has no companion.
        ObjectCorruptError: when an object holds no rows.
        DuplicateSampleError: when a sample id occurs with two contents, or is in the store with another one.
    """
    objects: list[tuple[RowObject, SegmentIndex]] = []
    statistics: Statistics | None = None
    present: dict[str, bytes] = {}
    added: dict[str, bytes] = {}
    erased = repeated = 0
    named = ErasedHashes(store, history.erased)
    names = store.names(ingest.prefix)
    for name in (name for name in names if name.endswith(_ROWS)):
        if f"{name.removesuffix(_ROWS)}{COMPANION}" not in names:
            raise ObjectMissingError(f"{name} has no companion with the hashes of its ids: an ingest puts one first")
        table = RowTable.from_parquet(store.get(name), name)
        erased_N = _erased(table, ingest, named, hash_key)
        hashes = [sample_hash(hash_key, sample_id) for sample_id in table.sample_ids]
        known = set(index.of_samples(hashes).hashes())
        present_N = np.array([each in known for each in hashes], bool) & ~erased_N
        erased += int(erased_N.sum())
        _first_occurrences(present, table, present_N)
        new_N = _first_occurrences(added, table, ~(erased_N | present_N))
        repeated += int((~(erased_N | new_N)).sum())
        new = table
        if not new_N.all():
            new = table.where(new_N)
            name = f"{name}{_REST}"
            if len(new):
                store.put(name, new.to_parquet())
        if len(new):
            source = RowObject(name, state_leaf(hash_key, INCOMING_PART, new.digest()))
            objects.append((source, SegmentIndex.of(new, config.seed, hash_key)))
            part = Statistics.of(new.features_NH, new.labels_N, len(config.labels))
            statistics = part if statistics is None else statistics + part
    _check_same(store, hash_key, present, index, partition, history.commit)
    return AddedRows(tuple(objects), statistics, repeated, erased)


def _first_occurrences(taken: dict[str, bytes], table: RowTable, of_N: np.ndarray) -> np.ndarray:
    """Which of these rows were not taken before, by their ids as they are compared; bool [N]. They are taken now.

    Raises:
        DuplicateSampleError: when one was taken with other content.
    """
    first_N = np.zeros(len(table), bool)
    for row, digest in zip(np.flatnonzero(of_N).tolist(), table.where(of_N).row_digests(), strict=True):
        sample_id = table.sample_ids[row]
        before = taken.setdefault(comparable(sample_id), digest)
        if before != digest:
            raise DuplicateSampleError(
                f"sample id {sample_id!r} occurs more than once, with another image, label or subject"
            )
        first_N[row] = before is digest
    return first_N


def _check_same(
    store: Store,
    hash_key: HashKey,
    present: Mapping[str, bytes],
    index: RowIndex,
    partition: LivePartition,
    commit: Commit | None,
) -> None:
    """Raise DuplicateSampleError if the store holds one of these ids with other content."""
    if commit is None or not present:
        return
    ids = {bytes.fromhex(sample_hash(hash_key, sample_id)): sample_id for sample_id in present}
    rows = index.of_samples(each.hex() for each in ids)
    stored: dict[str, bytes] = {}
    for key in set(map(partition.cluster_of, rows.anchors_R.tolist(), rows.bits_R.tolist())):
        entry = commit.entry(str(key))
        assert entry is not None
        for segment in entry.segments:
            held = read_index(store, hash_key, entry.key, segment)
            for sample, digest in zip(held.samples_N32, held.digests_N32, strict=True):
                if sample.tobytes() in ids:
                    stored[ids[sample.tobytes()]] = digest.tobytes()
    changed = next((name for name in sorted(present) if stored.get(name) != present[name]), None)
    if changed is not None:
        raise DuplicateSampleError(
            f"sample id {changed!r} is in the store already, with another image, label or subject: delete it first, "
            "or give the new row another id"
        )


def _erased(table: RowTable, ingest: PendingIngest, named: ErasedHashes, hash_key: HashKey) -> np.ndarray:
    """Which rows, or whose subjects, were named in a deletion; with ``force`` only in one after the ingest began."""
    heeded_from = ingest.begun + 1 if ingest.force else 0
    return np.array(
        [
            any(named.number_of(each) >= heeded_from for each in row_hashes(hash_key, sample_id, subject_id))
            for sample_id, subject_id in zip(table.sample_ids, table.subject_ids, strict=True)
        ],
        bool,
    )


def _hashes(hash_key: HashKey, table: RowTable) -> Iterable[str]:
    for sample_id, subject_id in zip(table.sample_ids, table.subject_ids, strict=True):
        yield from row_hashes(hash_key, sample_id, subject_id)
