"""A deletion and an ingest at once, at every step of each: no row of a deleted person stays.

One of the two is interrupted before its first, second, third … call of the store, and the other one happens there, in a
thread of its own as in the coordinator's process.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from small_system import System, build_system, finish, picture, samples
from stored_rows import rows_of

from actors.coordinator import Coordinator
from actors.incoming import put_rows
from lmeraser.data import Sample
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import RequestError
from lmeraser.proof.receipts import covers
from lmeraser.state.rows import RowTable
from lmeraser.store import LocalStore

# Of the rows that are there, s3 and s10 are the person's; of those that come, s30 and s31.
PERSON = "person"
STORED = [replace(row, subject_id=PERSON) if row.sample_id in ("s3", "s10") else row for row in samples(0, 16)]
INGESTED = [replace(row, subject_id=PERSON) if row.sample_id in ("s30", "s31") else row for row in samples(28, 36)]
# A sample that the deletion names and that the system does not hold yet.
NAMED = "s33"
_METHODS = ("get", "put", "put_if_absent", "exists", "names", "purge_below", "purge_partial")


@dataclass
class Interrupted:
    """Before its ``call``-th call of the store, the main thread lets something else happen."""

    call: int
    happen: Callable[[], None]
    calls: int = 0
    thread: threading.Thread | None = None
    failures: list[Exception] = field(default_factory=list)

    def before_call(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self.calls += 1
        if self.calls == self.call:
            self.thread = threading.Thread(target=self._run)
            self.thread.start()
            # It ends at once, or waits for a lock of the main thread and continues once it is free.
            self.thread.join(0.2)

    def _run(self) -> None:
        try:
            self.happen()
        except Exception as error:
            self.failures.append(error)


class InterruptedStore(LocalStore):
    interrupted: Interrupted | None = None


def _with_interruption(name: str) -> Any:
    def pipeline(self: InterruptedStore, *arguments: Any) -> Any:
        if self.interrupted is not None:
            self.interrupted.before_call()
        return getattr(LocalStore, name)(self, *arguments)

    return pipeline


for _name in _METHODS:
    setattr(InterruptedStore, _name, _with_interruption(_name))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> System:
    system = build_system(tmp_path_factory.mktemp("interleavings"), "coarse", 0)
    system.ingest(STORED)
    return system


class World:
    """A copy of the system, its coordinator, and the ingest."""

    def __init__(self, original: System, folder: Path, rows: RowTable) -> None:
        self.store = InterruptedStore(folder)
        for name in original.store.names():
            self.store.put(name, original.store.get(name))
        self.system = replace(original, store=self.store)
        self.coordinator: Coordinator = self.system.coordinator()
        self.prefix = self.coordinator.begin_ingest()
        put_rows(self.store, self.system.hash_key, f"{self.prefix}0", rows, seed=self.system.manifest.config.seed)
        self.deletion = ""

    def ingest(self, force: bool) -> None:
        self.coordinator.ingest(self.prefix, force)

    def delete(self) -> None:
        self.deletion = self.coordinator.delete(DeletionRequest((NAMED,), (PERSON,))).id

    def check(self, roots: Callable[[list[Sample]], str]) -> None:
        """Nothing of the person, or of the sample that was named, is anywhere, and the receipt says so."""
        newest = self.system.newest()
        tables = [rows_of(self.store, each) for each in newest.clusters]
        stored = {name for table in tables for name in table.sample_ids}
        assert PERSON not in {subject for table in tables for subject in table.subject_ids}
        assert NAMED not in stored
        assert newest.root == roots([row for row in (*STORED, *INGESTED) if row.sample_id in stored])
        assert {row.sample_id for row in STORED if row.subject_id != PERSON} <= stored
        receipt = self.coordinator.receipt(self.deletion)
        assert covers(receipt, self.system.hash_key, PERSON)
        images = [row.image for row in (*STORED, *INGESTED) if row.subject_id == PERSON] + [picture(33)]
        for name in self.store.names():
            data = self.store.get(name)
            assert not any(image in data for image in images), name


@pytest.fixture(scope="module")
def roots(original: System) -> Callable[[list[Sample]], str]:
    known: dict[tuple[str, ...], str] = {}

    def root(rows: list[Sample]) -> str:
        key = tuple(row.sample_id for row in rows)
        if key not in known:
            known[key] = original.fresh_root(rows)
        return known[key]

    return root


@pytest.mark.slow
@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("first", ["ingest", "deletion"])
def test_no_interleaving_of_an_ingest_and_a_deletion_leaves_a_row_of_the_person(
    original: System,
    roots: Callable[[list[Sample]], str],
    tmp_path: Path,
    first: str,
    force: bool,
) -> None:
    rows = original.pipeline().rows(INGESTED)
    for call in itertools.count(1):
        world = World(original, tmp_path / str(call), rows)
        begin, happen = (
            (lambda world=world: world.ingest(force), world.delete)
            if first == "ingest"
            else (world.delete, lambda world=world: world.ingest(force))
        )
        interrupted = world.store.interrupted = Interrupted(call, happen)
        begin()
        finish(world.coordinator)
        world.store.interrupted = None
        if interrupted.thread is None:
            # The work takes fewer calls: every one of them has been interrupted.
            assert call > 8
            break
        interrupted.thread.join()
        finish(world.coordinator)
        # An ingest that holds a row which is being erased is refused whole.
        assert all(isinstance(error, RequestError) for error in interrupted.failures)
        world.check(roots)
