"""What a coordinator takes at one size of the store: its start, and deletions that it carries out step by step.

Each measurement changes the store, so it gets a copy, and runs in a process of its own. The lease is left out. Seconds
are by the clock, and where the name has ``cpu``, of this process's processor time.

Legend: N rows, H head features.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import time
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actors.checkpoints import checkpoint_now, is_due
from actors.coordinator import Coordinator
from actors.journal import Journal
from benchmarks.lib.counted_store import CountedStore
from benchmarks.lib.durations import spread
from benchmarks.lib.numbered_rows import HEAD_DIM, LABELS, features_of, images_of, labels_of, sample_id
from benchmarks.lib.numbered_stores import NumberedStore
from benchmarks.lib.process_memory import resident_bytes
from benchmarks.lib.step_clock import StepClock
from lmeraser.deletion import DeletionRequest
from lmeraser.learning.heads import Statistics
from lmeraser.learning.numerics import deterministic
from lmeraser.state.keys import load_signing_key
from lmeraser.state.layout import LOG, RECEIPTS
from lmeraser.state.stored_objects import read_heads_state

Figures = dict[str, Any]
# No larger request is accepted.
MOST_IDS = 100_000
_SUMMED_ROWS = 100_000
_STARTS = 3
# The term and the commit that a store is made with.
_MADE_RECORDS = 2


def start(made: NumberedStore) -> Figures:
    """A start: until the first deletion is accepted, and until it is erased; memory after that, and at most."""
    store = CountedStore(Path(made.store.uri))
    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    coordinator = made.coordinator(store)
    deletion = coordinator.delete(request([0]))
    accepted_s = time.monotonic() - begun_s
    _erase(coordinator, [deletion.id])
    erased_s, erased_cpu_s = time.monotonic() - begun_s, time.process_time() - begun_cpu_s
    counts = store.counts()
    _finish(coordinator)
    gc.collect()
    now, most = resident_bytes()
    return {
        "accepted_s": round(accepted_s, 3),
        "erased_s": round(erased_s, 3),
        "erased_cpu_s": round(erased_cpu_s, 3),
        "resident_bytes": now,
        "most_resident_bytes": most,
        "objects": counts,
    }


def one(made: NumberedStore, count: int = 200) -> Figures:
    """Requests of one id, one after the other: from the call until accepted, and until erased.

    What is to be tuned then is tuned before the next one, and not timed.
    """
    store, clock = CountedStore(Path(made.store.uri)), StepClock()
    coordinator, numbers = made.coordinator(store), drawn(rows_of(made), count)
    accepted_s, erased_s, erased_cpu_s, steps, objects, coresets = [], [], [], [], [], 0
    for number in numbers:
        store.forget()
        clock.restart()
        begun_s, begun_cpu_s = time.monotonic(), time.process_time()
        deletion = coordinator.delete(request([number]))
        accepted_s.append(time.monotonic() - begun_s)
        _erase(coordinator, [deletion.id])
        erased_s.append(time.monotonic() - begun_s)
        erased_cpu_s.append(time.process_time() - begun_cpu_s)
        steps.append(clock.seconds())
        objects.append({kind: sum(counts.values()) for kind, counts in store.counts().items()})
        coresets += coordinator.deletion(deletion.id).status != "completed"
        _finish(coordinator)
    return {
        "n": count,
        "accepted_s": spread(accepted_s),
        "erased_s": spread(erased_s),
        "erased_cpu_s": spread(erased_cpu_s),
        "coreset_rows": coresets,
        "median_s_by_step": _medians(steps),
        "median_objects": _medians(objects),
        **_afterwards(made, numbers),
    }


def thousand(made: NumberedStore, count: int = 1000) -> Figures:
    """One request of a thousand ids."""
    return _requests(made, [drawn(rows_of(made), count)])


def requests(made: NumberedStore, count: int = 1000) -> Figures:
    """A thousand requests of one id each, that were all accepted before the first is carried out."""
    return _requests(made, [[number] for number in drawn(rows_of(made), count)])


def tenth(made: NumberedStore, count: int = 10) -> Figures:
    """A tenth of all rows, in ten requests: a million of ten million. The tunings that follow are not waited for."""
    rows = rows_of(made)
    numbers = drawn(rows, rows // 10)
    size = min(len(numbers) // count, MOST_IDS)
    return _requests(made, [numbers[first * size :][:size] for first in range(count)], complete=False)


def log(made: NumberedStore, lengths: Sequence[int] = (100, 10_000)) -> Figures:
    """Starts after so many commits, each of which changes nothing: seconds, and objects that are read of the log."""
    figures = {}
    appended = 0
    for length in lengths:
        _append_commits(made, length - appended)
        appended = length
        starts_s, read = [], []
        for _ in range(_STARTS):
            store = CountedStore(Path(made.store.uri))
            begun_s = time.monotonic()
            made.coordinator(store)
            starts_s.append(time.monotonic() - begun_s)
            read.append(store.counts()["read"])
        figures[str(length)] = {"started_s": spread(starts_s), "read": read[0]}
    return figures


def _requests(made: NumberedStore, batches: Sequence[Sequence[int]], *, complete: bool = True) -> Figures:
    """Have all requests accepted, erased and, unless that is not wanted, completed; what they leave behind."""
    store, clock = CountedStore(Path(made.store.uri)), StepClock()
    coordinator = made.coordinator(store)
    store.forget()
    begun_s, begun_cpu_s = time.monotonic(), time.process_time()
    ids = [coordinator.delete(request(numbers)).id for numbers in batches]
    accepted_s = time.monotonic() - begun_s
    clock.restart()
    _erase(coordinator, ids)
    erased_s, erased_cpu_s = time.monotonic() - begun_s, time.process_time() - begun_cpu_s
    by_step, counts = clock.seconds(), store.counts()
    receipts = [path.stat().st_size for path in (made.folder / "store" / RECEIPTS).rglob("*.json")]
    completing_s = time.monotonic()
    if complete:
        _finish(coordinator)
    return {
        "requests": len(batches),
        "ids": sum(map(len, batches)),
        "accepted_s": round(accepted_s, 3),
        "erased_s": round(erased_s, 3),
        "erased_cpu_s": round(erased_cpu_s, 3),
        "completed_s_later": round(time.monotonic() - completing_s, 3) if complete else None,
        "receipts_bytes": sum(receipts),
        "s_by_step": {step: round(seconds, 3) for step, seconds in by_step.items()},
        "objects": counts,
        "most_resident_bytes": resident_bytes()[1],
        **_afterwards(made, [number for numbers in batches for number in numbers]),
    }


def _afterwards(made: NumberedStore, erased: Collection[int]) -> Figures:
    """The greatest record of each kind, and whether the sums are those of the remaining rows."""
    most_bytes: dict[str, int] = {}
    for path in sorted((made.folder / "store" / LOG).iterdir())[_MADE_RECORDS:]:
        data = path.read_bytes()
        kind = json.loads(data)["kind"]
        most_bytes[kind] = max(len(data), most_bytes.get(kind, 0))
    return {"most_record_bytes": most_bytes, "exact": _is_exact(made, erased)}


def _is_exact(made: NumberedStore, erased: Collection[int]) -> bool:
    """Whether the shared head's sums are those of the rows that are left, added up from their numbers."""
    commit = made.commit
    assert commit is not None
    actual = read_heads_state(made.store, made.hash_key, commit).sums.shared.tensors("")
    rows = commit.rows + len(erased)
    keep_N = np.ones(rows, bool)
    keep_N[list(erased)] = False
    expected = Statistics.zero(HEAD_DIM, len(LABELS))
    with deterministic():
        for begin in range(0, rows, _SUMMED_ROWS):
            numbers_N = begin + np.flatnonzero(keep_N[begin : begin + _SUMMED_ROWS])
            expected += Statistics.of(features_of(images_of(numbers_N)), labels_of(numbers_N), len(LABELS))
    return all(np.array_equal(actual[name], sums) for name, sums in expected.tensors("").items())


def _append_commits(made: NumberedStore, count: int) -> None:
    journal = Journal(made.store)
    journal.open_term()
    key = load_signing_key(made.folder / "keys")
    for _ in range(count):
        assert journal.history.commit is not None
        journal.append_commit(journal.history.commit.changed(()))
        if is_due(journal.history):
            checkpoint_now(made.store, journal.history, journal.head, key, journal.check)


def rows_of(made: NumberedStore) -> int:
    """How many rows it holds."""
    commit = made.commit
    return commit.rows if commit is not None else 0


def drawn(rows: int, count: int) -> list[int]:
    """So many of the numbers below ``rows``, in random order."""
    return random.Random(count).sample(range(rows), count)


def request(numbers: Iterable[int]) -> DeletionRequest:
    """A deletion of the rows with these numbers."""
    return DeletionRequest(tuple(map(sample_id, numbers)))


def is_erased(coordinator: Coordinator, deletion_id: str) -> bool:
    """Whether nothing that answers has the rows of a deletion any longer."""
    return coordinator.deletion(deletion_id).status in ("erased", "completed")


def _erase(coordinator: Coordinator, ids: Sequence[str]) -> None:
    """Step until all of these deletions are erased."""
    for each in reversed(ids):
        while not is_erased(coordinator, each):
            coordinator.step()


def _finish(coordinator: Coordinator) -> None:
    while not coordinator.idle():
        coordinator.step()


def _medians(values: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The median of each value; one that is missing is zero."""
    names = sorted({name for each in values for name in each})
    return {name: round(statistics.median(each.get(name, 0) for each in values), 4) for name in names}
