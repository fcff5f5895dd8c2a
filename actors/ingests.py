"""The rows of an ingest: how they are put under a prefix, and which of them are new when they are added.

Each row object has a companion, put before it, that holds nothing but keyed hashes of its ids: whether a row is being
erased can be told without reading any image.

Legend: N rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from actors.log_replay import History
from actors.owner import RowObject
from actors.regroup import clusters_of
from actors.row_index import RowIndex
from lmeraser.config import StateConfig
from lmeraser.errors import DuplicateSampleError, ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.learning.heads import Statistics
from lmeraser.learning.region import RegionIndex
from lmeraser.proof.receipts import row_hashes
from lmeraser.state.commit import Commit
from lmeraser.state.digests import state_leaf
from lmeraser.state.layout import INCOMING_PART
from lmeraser.state.rows import RowTable
from lmeraser.state.stored_objects import read_rows_of
from lmeraser.store import Store

COMPANION = ".ids"
_ROWS = ".parquet"
# Of an object some of whose rows are not added, the rest.
_REST = ".rest"


@dataclass(frozen=True)
class IngestOutcome:
    """What became of an ingest's rows.

    Attributes:
        added: rows that are new.
        present: rows that were there already, the same in every byte.
        erased: rows left out because they, or their subjects, were named in a deletion before.
    """

    added: int
    present: int
    erased: int


@dataclass(frozen=True)
class PendingIngest:
    """One ingest that waits to be added.

    Attributes:
        prefix: where its row objects lie.
        begun: number of the newest log record when it began.
        force: whether it may bring back rows that were erased before it began.
        outcome: what became of its rows.
    """

    prefix: str
    begun: int
    force: bool
    outcome: Future[IngestOutcome] = field(default_factory=Future)

    def tell(self, outcome: IngestOutcome | Exception) -> None:
        """Say what became of its rows, or why none was added."""
        if isinstance(outcome, IngestOutcome):
            self.outcome.set_result(outcome)
        else:
            self.outcome.set_exception(outcome)


@dataclass(frozen=True)
class Arrived:
    """What the coordinator needs to know of the new rows of an ingest: everything but their images and features.

    Attributes:
        objects: the row objects, each with the index of its rows.
        index: all rows.
        statistics: the shared head's statistics of all rows; None where there are none.
        present, erased: how many rows are not among them, see :class:`IngestOutcome`.
    """

    objects: tuple[tuple[RowObject, RowIndex], ...]
    index: RowIndex
    statistics: Statistics | None
    present: int
    erased: int


def put_rows(store: Store, hash_key: HashKey, name: str, table: RowTable) -> None:
    """Put rows under the prefix of an ingest, as ``<name>.parquet`` with its companion."""
    store.put(f"{name}{COMPANION}", short_hashes(_hashes(hash_key, table)).tobytes())
    store.put(f"{name}{_ROWS}", table.to_parquet())


def short_hashes(hashes: Iterable[str]) -> np.ndarray:
    """uint64: the first eight bytes of keyed hashes, sorted. Two of them are the same by chance once in 10^19."""
    return np.sort(np.array([int(each[:16], 16) for each in hashes], "<u8"))


def read_incoming(
    store: Store,
    ingest: PendingIngest,
    history: History,
    hash_key: HashKey,
    config: StateConfig,
    index: RowIndex,
) -> Arrived:
    """The new rows of an ingest, read object by object.

    Args:
        store, hash_key, method: the store's.
        ingest: what to read.
        history: what the log says: the newest commit, and what was erased.
        index: the rows of the newest commit.

    Raises:
        ObjectMissingError: when an object has no companion.
        ObjectCorruptError: when an object holds no rows.
        DuplicateSampleError: when a sample id comes twice, or is in the store with other content.
    """
    objects: list[tuple[RowObject, RowIndex]] = []
    statistics: Statistics | None = None
    digests: dict[str, str] = {}
    erased = 0
    names = store.names(ingest.prefix)
    for name in (name for name in names if name.endswith(_ROWS)):
        if f"{name.removesuffix(_ROWS)}{COMPANION}" not in names:
            raise ObjectMissingError(f"{name} has no companion with the hashes of its ids: an ingest puts one first")
        table = RowTable.from_parquet(store.get(name), name)
        erased_N = _erased(table, ingest, history, hash_key)
        present_N = np.array([sample_id in index for sample_id in table.sample_ids], bool) & ~erased_N
        erased += int(erased_N.sum())
        if present_N.any():
            _take_digests(digests, table.where(present_N))
        new = table
        if erased_N.any() or present_N.any():
            new = table.where(~(erased_N | present_N))
            name = f"{name}{_REST}"
            if len(new):
                store.put(name, new.to_parquet())
        if len(new):
            source = RowObject(name, INCOMING_PART, state_leaf(hash_key, INCOMING_PART, new.digest()))
            objects.append((source, RowIndex.of((new,), config.seed)))
            part = Statistics.of(new.features_NH, new.labels_N, len(config.labels))
            statistics = part if statistics is None else statistics + part
    _check_same(store, hash_key, digests, index, history.commit)
    rows = RowIndex.joining(part for _, part in objects)
    return Arrived(tuple(objects), rows, statistics, len(digests), erased)


def _take_digests(digests: dict[str, str], table: RowTable) -> None:
    repeated = next((name for name, count in Counter([*digests, *table.sample_ids]).items() if count > 1), None)
    if repeated is not None:
        raise DuplicateSampleError(f"sample id {repeated!r} comes more than once")
    digests |= table.row_digests()


def _check_same(
    store: Store, hash_key: HashKey, digests: dict[str, str], index: RowIndex, commit: Commit | None
) -> None:
    """Check that the rows which the store holds are those that come: the same id with other content is an error."""
    if commit is None or not digests:
        return
    there: dict[str, str] = {}
    regions = RegionIndex(entry.region for entry in commit.clusters)
    for key in clusters_of(index.only(digests), regions):
        entry = commit.entry(key)
        assert entry is not None
        there |= read_rows_of(store, hash_key, entry).row_digests()
    changed = next((name for name in sorted(digests) if there.get(name) != digests[name]), None)
    if changed is not None:
        raise DuplicateSampleError(
            f"sample id {changed!r} is in the store already, with another image, label or subject: delete it first, "
            "or give the new row an id of its own"
        )


def _erased(table: RowTable, ingest: PendingIngest, history: History, hash_key: HashKey) -> np.ndarray:
    """Which rows were named in a deletion, or their subjects; a forced ingest heeds only those after it began."""
    heeded_from = ingest.begun + 1 if ingest.force else 0
    return np.array(
        [
            any(history.erased.get(each, -1) >= heeded_from for each in row_hashes(hash_key, sample_id, subject_id))
            for sample_id, subject_id in zip(table.sample_ids, table.subject_ids, strict=True)
        ],
        bool,
    )


def _hashes(hash_key: HashKey, table: RowTable) -> Iterable[str]:
    for sample_id, subject_id in zip(table.sample_ids, table.subject_ids, strict=True):
        yield from row_hashes(hash_key, sample_id, subject_id)
