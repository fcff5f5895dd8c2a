"""Rows that were put under a prefix and wait to be added."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

from actors.history import History
from actors.index import RowIndex
from actors.owner import RowObject
from lmeraser.commit import Commit
from lmeraser.config import MethodConfig
from lmeraser.errors import ErasedRowError, RequestError
from lmeraser.heads import Statistics
from lmeraser.keys import HashKey
from lmeraser.objects import read_rows
from lmeraser.receipts import row_hashes
from lmeraser.rows import RowTable
from lmeraser.state import state_leaf
from lmeraser.store import Store

# A job that writes rows renews its prefix twice a second; one that is silent for so long has ended.
SILENCE_S = 60.0
INCOMING = "incoming"


@dataclass(frozen=True)
class Incoming:
    """One ingest: where its row objects lie, whether it may bring back erased rows, and how many rows it added."""

    prefix: str
    force: bool
    rows: Future[int] = field(default_factory=Future)

    def tell(self, outcome: int | Exception) -> None:
        """Say how many rows were added, or why none was."""
        if isinstance(outcome, int):
            self.rows.set_result(outcome)
        else:
            self.rows.set_exception(outcome)


@dataclass(frozen=True)
class Arrived:
    """What the registrar needs to know of the rows of an ingest: everything but their images and features.

    Attributes:
        objects: the row objects, each with the index of its rows.
        index: all rows.
        statistics: the shared head's statistics of all rows.
    """

    objects: tuple[tuple[RowObject, RowIndex], ...]
    index: RowIndex
    statistics: Statistics


def read_incoming(
    store: Store, ingest: Incoming, history: History, hash_key: HashKey, method: MethodConfig
) -> Arrived | None:
    """The rows of an ingest, read object by object; None when it holds none.

    Raises:
        ObjectCorruptError: when an object holds no rows.
        ErasedRowError: when a row or its subject was erased before, and the ingest is not forced.
        DuplicateSampleError: when a sample id comes twice.
    """
    objects: list[tuple[RowObject, RowIndex]] = []
    statistics: Statistics | None = None
    for name in store.names(ingest.prefix):
        table = RowTable.from_parquet(store.get(name), name)
        if not ingest.force:
            _check_not_erased(table, history, hash_key)
        leaf = state_leaf(hash_key, INCOMING, table.digest())
        objects.append((RowObject(name, INCOMING, leaf), RowIndex.of((table,), method.seed)))
        part = Statistics.of(table.features_NH, table.labels_N, len(method.labels))
        statistics = part if statistics is None else statistics + part
    if statistics is None:
        return None
    return Arrived(tuple(objects), RowIndex.joining(rows for _, rows in objects), statistics)


def is_there(store: Store, hash_key: HashKey, arrived: Arrived, index: RowIndex, commit: Commit | None) -> bool:
    """Whether every row of the ingest is in the store, the same in every byte: it was added before.

    Raises:
        ObjectMissingError, ObjectCorruptError: when a cluster's rows are not what the commit names.
    """
    if commit is None or not all(name in index for name in arrived.index.sample_ids):
        return False
    wanted: dict[str, str] = {}
    for source, _ in arrived.objects:
        wanted |= RowTable.from_parquet(store.get(source.name), source.name).row_digests()
    for entry in commit.clusters:
        rows = read_rows(store, hash_key, entry.rows_object, f"rows/{entry.key}", entry.rows_leaf)
        for name, digest in rows.row_digests().items():
            if wanted.pop(name, digest) != digest:
                return False
    return not wanted


def _check_not_erased(table: RowTable, history: History, hash_key: HashKey) -> None:
    for sample_id, subject_id in zip(table.sample_ids, table.subject_ids, strict=True):
        if not row_hashes(hash_key, sample_id, subject_id).isdisjoint(history.erased_hashes):
            whose = "" if subject_id is None else f" of subject {subject_id!r}"
            raise ErasedRowError(
                f"sample {sample_id!r}{whose} was erased before; ingest it with --force only if its owner agreed again"
            )


class Prefixes:
    """The prefixes under which rows are being written, or wait to be added. Methods may be called from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._last_heard_s: dict[str, float] = {}
        self._waiting: set[str] = set()
        self._forbidden: set[str] = set()
        self._dropped = False

    def begin(self) -> str:
        """A new prefix; it must be renewed until it is handed over."""
        prefix = f"incoming/{uuid.uuid4().hex}/"
        with self._lock:
            self._last_heard_s[prefix] = time.monotonic()
        return prefix

    def renew(self, prefix: str) -> None:
        """Say that rows are still being written. Raises RequestError when the prefix was dropped."""
        with self._lock:
            self._check(prefix)
            self._last_heard_s[prefix] = time.monotonic()

    def hand_over(self, prefix: str) -> None:
        """Its rows are complete and wait to be added. Raises RequestError when the prefix was dropped."""
        with self._lock:
            if self._holds_forbidden(prefix):
                self._dropped |= self._last_heard_s.pop(prefix, None) is not None
            self._check(prefix)
            del self._last_heard_s[prefix]
            self._waiting.add(prefix)

    def added(self, prefix: str) -> None:
        """Its rows were added, or refused: the next sweep removes what lies under it."""
        with self._lock:
            self._waiting.discard(prefix)

    def drop(self, prefix: str) -> None:
        """Give up a prefix that was not handed over; its rows are never added."""
        with self._lock:
            self._dropped |= self._last_heard_s.pop(prefix, None) is not None

    def forbid(self, sample_ids: Collection[str]) -> None:
        """These samples are being erased: what is written now and holds one of them is dropped by the next sweep."""
        with self._lock:
            if self._last_heard_s:
                self._forbidden |= set(sample_ids)

    def drop_silent(self) -> bool:
        """Drop the prefixes that nobody renews; whether any prefix was dropped since the last sweep."""
        with self._lock:
            oldest_s = time.monotonic() - SILENCE_S
            silent = [prefix for prefix, heard_s in self._last_heard_s.items() if heard_s < oldest_s]
        for prefix in silent:
            self.drop(prefix)
        return self._dropped

    @contextmanager
    def held(self) -> Iterator[set[str]]:
        """All prefixes that a sweep must leave alone; none is begun meanwhile."""
        with self._lock:
            self._dropped = False
            for prefix in [prefix for prefix in self._last_heard_s if self._holds_forbidden(prefix)]:
                del self._last_heard_s[prefix]
            if not self._last_heard_s:
                self._forbidden.clear()
            yield self._waiting | set(self._last_heard_s)

    def _holds_forbidden(self, prefix: str) -> bool:
        names = self._store.names(prefix) if self._forbidden else []
        tables = (RowTable.from_parquet(self._store.get(name), name) for name in names)
        return any(not self._forbidden.isdisjoint(table.sample_ids) for table in tables)

    def _check(self, prefix: str) -> None:
        if prefix not in self._last_heard_s:
            raise RequestError(
                "the ingest cannot go on: the registrar started anew, a row of it was erased meanwhile, or nothing "
                f"was heard of it for {SILENCE_S:.0f} s. None of its rows was added; start it again"
            )
