"""Puts the simulator's clock, locks and names in the place of the real ones, in the modules under test.

What computes stays as it is; what only costs time, such as Parquet and limits on threads, is remembered or left out.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from actors.backlog import Backlog
from actors.planner import Planner
from actors.requests import Requests
from lmeraser.hashing import HashKey
from lmeraser.state import merkle
from lmeraser.state.rows import RowTable
from simulator import threads
from simulator.rows import simulated_pipeline
from simulator.scheduler import Scheduler

TIME = ("actors.eraser", "actors.prefixes", "serving.current_snapshot", "serving.renewal")
LOCKS = (
    "actors.committer",
    "actors.previews",
    "actors.request_groups",
    "actors.prefixes",
    "actors.journal",
    "actors.owner",
    "actors.turns",
    "serving.lease",
    "serving.current_snapshot",
    "serving.renewal",
)
NAMES = ("actors.requests", "lmeraser.state.layout")
DATES = ("lmeraser.clock",)
STEPS = (
    "actors.eraser",
    "actors.committer",
    "actors.owner",
    "actors.request_groups",
    "actors.receipt_writer",
    "actors.checkpoints",
)
NUMERICS = (
    ("actors.committer", "deterministic_alone"),
    ("actors.transition", "deterministic_alone"),
    ("actors.repair", "deterministic"),
    ("lmeraser.proof.recompute", "deterministic"),
)


class Inline:
    """An executor that does its work at once."""

    def __init__(self, _workers: int, **_: object) -> None:
        pass

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @staticmethod
    def map(work: Callable[..., Any], *values: Iterable[Any]) -> Iterator[Any]:
        return map(work, *values)


class Dates:
    """Stands for ``datetime.datetime`` where it says what time it is."""

    def __init__(self, world: Current) -> None:
        self._world = world

    def now(self, _zone: Any) -> datetime:
        scheduler = self._world.scheduler
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=scheduler.now_s if scheduler else 0.0)

    fromisoformat = staticmethod(datetime.fromisoformat)


class Current:
    """The history that runs now: the modules under test ask it for time, locks and names."""

    def __init__(self) -> None:
        self.scheduler: Scheduler | None = None
        self._names = 0
        self._thread = threading.get_ident()

    def enter(self) -> None:
        self._thread = threading.get_ident()

    def here(self, simulated: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
        """The simulated one in the thread of the simulator; services of other tests keep threads of their own."""

        def either(*values: Any, **named: Any) -> Any:
            return (simulated if threading.get_ident() == self._thread else real)(*values, **named)

        return either

    def now(self) -> Scheduler | None:
        return self.scheduler

    def begin(self, scheduler: Scheduler, names: int) -> None:
        self.scheduler = scheduler
        self._names = names

    def sleep(self, seconds: float) -> None:
        if self.scheduler is not None:
            self.scheduler.sleep(seconds)

    def monotonic(self) -> float:
        if self.scheduler is None:
            return 0.0
        self.scheduler.point("read the clock")
        return self.scheduler.now_s

    def name(self) -> SimpleNamespace:
        self._names += 1
        return SimpleNamespace(hex=f"{self._names:032x}")

    def fail_point(self, boundary: Any) -> None:
        if self.scheduler is not None:
            self.scheduler.point(str(boundary))


CURRENT = Current()


@contextmanager
def seams() -> Iterator[Current]:
    """The modules under test run in the simulator inside the block."""
    CURRENT.enter()
    here = CURRENT.here
    clock = SimpleNamespace(sleep=here(CURRENT.sleep, time.sleep), monotonic=here(CURRENT.monotonic, time.monotonic))
    locks = SimpleNamespace(
        Lock=here(partial(threads.Lock, CURRENT.now), threading.Lock),
        RLock=here(partial(threads.Lock, CURRENT.now, True), threading.RLock),
        Condition=here(partial(threads.Condition, CURRENT.now), threading.Condition),
        Event=here(partial(threads.Event, CURRENT.now), threading.Event),
        Thread=here(partial(threads.Thread, CURRENT.now), threading.Thread),
    )
    replaced: list[tuple[str, str, Any]] = [
        *((module, "time", clock) for module in TIME),
        *((module, "threading", locks) for module in LOCKS),
        *((module, "uuid", SimpleNamespace(uuid4=CURRENT.name)) for module in NAMES),
        *((module, "datetime", Dates(CURRENT)) for module in DATES),
        *((module, "fail_point", CURRENT.fail_point) for module in STEPS),
        ("actors.loading", "ThreadPoolExecutor", Inline),
        # Everything runs as if in a kept thread, whose own parallel work is done piece by piece.
        ("lmeraser.parallel", "_here", SimpleNamespace(is_kept=True)),
        *((module, name, nullcontext) for module, name in NUMERICS),
        ("actors.coordinator", "Requests", partial(Requests, clock=CURRENT.monotonic)),
        ("actors.coordinator", "Backlog", partial(Backlog, clock=CURRENT.monotonic)),
        ("actors.tunings", "Planner", partial(Planner, clock=CURRENT.monotonic)),
        ("serving.lease", "Future", here(partial(threads.SimulatedFuture, CURRENT.now), Future)),
        ("lmeraser.proof.receipts", "version", lambda _package: "simulated"),
        ("lmeraser.state.merkle", "_leaf_hash", lru_cache(maxsize=1 << 15)(merkle._leaf_hash)),
        # Clusters of a few rows are cut into several segments.
        ("lmeraser.state.segment", "MAX_SEGMENT_ROWS", 2),
        # Histories of a few steps have checkpoints.
        ("actors.checkpoints", "MAX_COMMITS", 2),
        # Deletions of a few rows are carried out in parts.
        ("actors.eraser", "MAX_SEGMENTS", 2),
        ("lmeraser.state.pipeline_loading", "load_pipeline", simulated_pipeline),
    ]
    keyed = lru_cache(maxsize=1 << 15)(HashKey.of)
    read, write = RowTable.from_parquet, RowTable.to_parquet
    with ExitStack() as stack:
        for module, name, value in replaced:
            stack.enter_context(patch.object(importlib.import_module(module), name, value))
        stack.enter_context(patch.object(HashKey, "of", keyed))
        remembered = lru_cache(maxsize=4096)(lambda data: read(data, "rows"))
        stack.enter_context(patch.object(RowTable, "from_parquet", staticmethod(lambda data, _name: remembered(data))))
        stack.enter_context(patch.object(RowTable, "to_parquet", _remembering(write)))
        yield CURRENT


def _remembering(write: Callable[[RowTable], bytes]) -> Callable[[RowTable], bytes]:
    """Simulated rows are what their ids and images say, so the same ids and images give the same file."""
    known: dict[tuple[Any, ...], bytes] = {}

    def to_parquet(table: RowTable) -> bytes:
        key = (table.sample_ids, table.images, table.subject_ids)
        data = known.get(key)
        if data is None:
            data = known[key] = write(table)
        return data

    return to_parquet
