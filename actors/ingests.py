"""The rows of an ingest: which of them are new when they are added.

Legend: N rows.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from actors.erased_hashes import ErasedHashes
from actors.incoming import ROWS, companion_of, read_companion, read_sums, sums_of
from actors.jobs import RowObject
from actors.live_partition import LivePartition
from actors.log_replay import History
from actors.row_index import RowIndex
from lmeraser.config import StateConfig
from lmeraser.errors import DuplicateSampleError, ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.learning.heads import Statistics
from lmeraser.state.commit import Commit
from lmeraser.state.digests import state_leaf
from lmeraser.state.layout import INCOMING_PART
from lmeraser.state.rows import RowTable
from lmeraser.state.segment import SegmentIndex
from lmeraser.state.stored_objects import read_index
from lmeraser.store import Store

# Suffix of an object with only the rows that are added, where some of the original's are not.
_REST = ".rest"
# Of rows that are refused, so many are read for the message.
_NAMED = 10


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


@dataclass(frozen=True)
class _Row:
    """A row that was read: the digest of its content, and where it is."""

    digest: bytes
    name: str
    position: int

    def sample_id(self, store: Store) -> str:
        """Its id in clear, for a message."""
        return RowTable.from_parquet(store.get(self.name), self.name).sample_ids[self.position]


class _Reading:
    """Reads the objects of one ingest. Images are read only of objects that hold rows which are not added."""

    def __init__(
        self, store: Store, ingest: PendingIngest, hash_key: HashKey, config: StateConfig, index: RowIndex
    ) -> None:
        self._store = store
        self._ingest = ingest
        self._hash_key = hash_key
        self._config = config
        self._index = index
        self._added: dict[bytes, _Row] = {}
        self.present: dict[bytes, _Row] = {}
        self.objects: list[tuple[RowObject, SegmentIndex]] = []
        self.statistics: Statistics | None = None
        self.erased = self.repeated = 0

    def take(self, name: str, named: ErasedHashes, has_sums: bool) -> None:
        """Take the new rows of an object; has_sums says whether those of its run were added."""
        index = read_companion(self._store, name)
        erased_N = _erased(index, self._ingest, named)
        present_N = self._present(index) & ~erased_N
        self._first_occurrences(self.present, name, index, present_N)
        new_N = self._first_occurrences(self._added, name, index, ~(erased_N | present_N))
        self.erased += int(erased_N.sum())
        self.repeated += int((~(erased_N | new_N)).sum())
        target = name
        if not (has_sums and new_N.all()):
            table = RowTable.from_parquet(self._store.get(name), name)
            if has_sums:
                self._sum(table.where(~new_N), -1)
            else:
                self._sum(table.where(new_N), 1)
            if not new_N.all():
                target, index = f"{name}{_REST}", index.at(new_N)
                if new_N.any():
                    self._store.put(target, table.where(new_N).to_parquet())
        if len(index):
            leaf = state_leaf(self._hash_key, INCOMING_PART, index.rows_digest())
            self.objects.append((RowObject(target, leaf), index))

    def add_sums(self, sums: Statistics) -> None:
        """Add the sums over all rows of a run; rows that are not added are subtracted as they are found."""
        self.statistics = sums if self.statistics is None else self.statistics + sums

    def _sum(self, table: RowTable, sign: int) -> None:
        if len(table):
            part = Statistics.of(table.features_NH, table.labels_N, len(self._config.labels))
            before = self.statistics or Statistics.zero(table.features_NH.shape[1], len(self._config.labels))
            self.statistics = before + part if sign > 0 else before - part

    def _present(self, index: SegmentIndex) -> np.ndarray:
        """Which rows' ids the store holds, bool [N]."""
        hashes = [sample.tobytes().hex() for sample in index.samples_N32]
        known = set(self._index.of_samples(hashes).hashes())
        return np.array([each in known for each in hashes], bool)

    def _first_occurrences(
        self, taken: dict[bytes, _Row], name: str, index: SegmentIndex, of_N: np.ndarray
    ) -> np.ndarray:
        """Which of these rows were not taken before, bool [N]. They are taken now."""
        first_N = np.zeros(len(index), bool)
        for position in np.flatnonzero(of_N).tolist():
            row = _Row(index.digests_N32[position].tobytes(), name, position)
            before = taken.setdefault(index.samples_N32[position].tobytes(), row)
            if before.digest != row.digest:
                raise DuplicateSampleError(
                    f"sample id {row.sample_id(self._store)!r} occurs more than once, with another image, label or "
                    "subject"
                )
            first_N[position] = before is row
        return first_N


def read_incoming(
    store: Store,
    ingest: PendingIngest,
    history: History,
    hash_key: HashKey,
    config: StateConfig,
    index: RowIndex,
    partition: LivePartition,
) -> AddedRows:
    """The new rows of an ingest, by the indexes of its objects.

    Args:
        store, hash_key, config: the store's.
        ingest: the ingest to read.
        history: gives the newest commit, and what was erased.
        index, partition: the rows of the newest commit.

    Raises:
        ObjectMissingError: when an object has no companion.
        ObjectCorruptError: when a companion is damaged.
        DuplicateSampleError: when a sample id occurs with two contents, or is in the store with another one.
    """
    named = ErasedHashes(store, history.erased)
    names = set(store.names(ingest.prefix))
    rows_objects = sorted(name for name in names if name.endswith(ROWS))
    for name in rows_objects:
        if companion_of(name) not in names:
            raise ObjectMissingError(f"{name} has no companion with the hashes of its ids: an ingest puts one first")
    reading = _Reading(store, ingest, hash_key, config, index)
    for name in sorted({sums_of(name) for name in rows_objects} & names):
        reading.add_sums(read_sums(store, name))
    for name in rows_objects:
        reading.take(name, named, sums_of(name) in names)
    _check_same(store, hash_key, reading.present, index, partition, history.commit)
    statistics = reading.statistics if reading.objects else None
    return AddedRows(tuple(reading.objects), statistics, reading.repeated, reading.erased)


def _erased(index: SegmentIndex, ingest: PendingIngest, named: ErasedHashes) -> np.ndarray:
    """Which rows, or whose subjects, were named in a deletion; with ``force`` only in one after the ingest began."""
    heeded_from = ingest.begun + 1 if ingest.force else 0
    return np.array([any(named.number_of(each) >= heeded_from for each in row) for row in _hashes(index)], bool)


def _hashes(index: SegmentIndex) -> list[tuple[str, ...]]:
    """By row, the keyed hashes by which a request may name it."""
    return [
        (sample.tobytes().hex(), *([subject.tobytes().hex()] if subject.any() else []))
        for sample, subject in zip(index.samples_N32, index.subjects_N32, strict=True)
    ]


def _check_same(
    store: Store,
    hash_key: HashKey,
    present: dict[bytes, _Row],
    index: RowIndex,
    partition: LivePartition,
    commit: Commit | None,
) -> None:
    """Raise DuplicateSampleError if the store holds one of these samples with other content."""
    if commit is None or not present:
        return
    rows = index.of_samples(each.hex() for each in present)
    stored: dict[bytes, bytes] = {}
    for key in set(map(partition.cluster_of, rows.anchors_R.tolist(), rows.bits_R.tolist())):
        entry = commit.entry(str(key))
        assert entry is not None
        for segment in entry.segments:
            held = read_index(store, hash_key, entry.key, segment)
            samples = (sample.tobytes() for sample in held.samples_N32)
            stored |= {
                sample: digest.tobytes()
                for sample, digest in zip(samples, held.digests_N32, strict=True)
                if sample in present
            }
    changed = [row for sample, row in present.items() if stored.get(sample) != row.digest]
    if changed:
        name = min(row.sample_id(store) for row in changed[:_NAMED])
        raise DuplicateSampleError(
            f"sample id {name!r} is in the store already, with another image, label or subject: delete it first, or "
            "give the new row another id"
        )
