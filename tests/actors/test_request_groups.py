"""Requests of many callers share records, and so does what happens to them; each keeps its own answer and receipt."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from small_system import System, finish, samples
from until import until

from lmeraser.deletion import Deletion, DeletionRequest
from lmeraser.errors import IdempotencyConflictError, LMEraserError, StoreError
from lmeraser.hashing import sample_hash
from lmeraser.proof.receipts import covers, verify_receipt
from lmeraser.state.keys import load_signing_key
from lmeraser.state.log import Log
from lmeraser.state.record_bodies import ErasedBody, deletions_of
from lmeraser.store import LocalStore

SystemOf = Callable[..., System]
CALLERS = 12


class SlowLog(LocalStore):
    """Writes a record in so much time that all callers come meanwhile, or fails to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.pause_s = 0.0
        self.fails = False
        self.writes = 0

    def put_if_absent(self, name: str, data: bytes) -> None:
        self.writes += 1
        time.sleep(self.pause_s)
        if self.fails:
            raise StoreError(f"{name} cannot be written")
        super().put_if_absent(name, data)


@pytest.fixture
def slow(system_of: SystemOf) -> System:
    system = system_of("coarse", 24)
    return replace(system, store=SlowLog(Path(system.store.uri)))


def ask_at_once(system: System, requests: list[DeletionRequest]) -> list[Future[Deletion]]:
    """The outcomes of requests that come while the record of an earlier one, for s23, is written slowly."""
    coordinator = system.coordinator()
    store = system.store
    assert isinstance(store, SlowLog)
    store.pause_s, store.writes = 0.5, 0
    with ThreadPoolExecutor(1 + len(requests)) as callers:
        callers.submit(coordinator.delete, DeletionRequest(("s23",)))
        until(lambda: store.writes or None, 60.0)
        outcomes = [callers.submit(coordinator.delete, request) for request in requests]
    store.pause_s = 0.0
    finish(coordinator)
    return outcomes


def recorded(system: System, kind: str) -> list[str]:
    """Ids of the deletions that records of a kind are about."""
    return [name for record in Log(system.store).advance() if record.kind == kind for name in deletions_of(record)]


def error_of(outcome: Future[Deletion]) -> type[BaseException] | None:
    error = outcome.exception()
    return None if error is None else type(error)


def test_requests_that_come_while_a_record_is_written_share_the_next(slow: System) -> None:
    outcomes = ask_at_once(slow, [DeletionRequest((f"s{number}",)) for number in range(CALLERS)])
    assert isinstance(slow.store, SlowLog)
    kinds = Counter(record.kind for record in Log(slow.store).advance())
    # The earlier one alone, and the others together, unless some came late.
    assert kinds["request"] <= 4
    ids = {outcome.result().id for outcome in outcomes}
    for kind in ("request", "erased", "completed"):
        assert len(recorded(slow, kind)) == 1 + CALLERS
        assert ids < set(recorded(slow, kind))
    assert {outcome.result().rows for outcome in outcomes} == {1}
    assert slow.newest().root == slow.fresh_root(samples(CALLERS, 23))


def test_a_record_that_cannot_be_written_refuses_all_of_its_requests(slow: System) -> None:
    assert isinstance(slow.store, SlowLog)
    coordinator = slow.coordinator()
    slow.store.fails, slow.store.pause_s, slow.store.writes = True, 0.5, 0
    with ThreadPoolExecutor(CALLERS) as callers:
        outcomes = [callers.submit(coordinator.delete, DeletionRequest((f"s{each}",))) for each in range(CALLERS)]
    assert [error_of(outcome) for outcome in outcomes] == [StoreError] * CALLERS
    assert slow.store.writes <= 4
    slow.store.fails, slow.store.pause_s = False, 0.0
    finish(coordinator)
    assert (recorded(slow, "request"), slow.newest().rows) == ([], 24)
    again = coordinator.delete(DeletionRequest(("s0",)))
    assert recorded(slow, "request") == [again.id]


def test_one_idempotency_key_in_a_group_is_one_deletion(slow: System) -> None:
    named = [DeletionRequest((f"s{number % 3 // 2}",), idempotency_key="once") for number in range(CALLERS)]
    outcomes = ask_at_once(slow, named)
    _, only = recorded(slow, "request")
    answered = {
        request.sample_ids: {each.result().id if error_of(each) is None else error_of(each)}
        for request, each in zip(named, outcomes, strict=True)
    }
    assert sorted(map(str, answered.values())) == sorted([str({only}), str({IdempotencyConflictError})])


def test_a_request_that_is_refused_refuses_no_other_of_its_group(slow: System) -> None:
    # So many unknown ids are allowed once only.
    unknown = [DeletionRequest(tuple(f"nobody {part} {number}" for number in range(60_000))) for part in range(2)]
    outcomes = ask_at_once(slow, [*unknown, *(DeletionRequest((f"s{number}",)) for number in range(4))])
    errors = [outcome.exception() for outcome in outcomes]
    assert errors[2:] == [None] * 4
    assert sum(isinstance(error, LMEraserError) for error in errors) == 1
    assert len(recorded(slow, "completed")) == 6


def test_deletions_of_one_commit_share_records_and_no_receipt(system_of: SystemOf) -> None:
    system = system_of("coarse", 24)
    coordinator = system.coordinator()
    deletions = {name: coordinator.delete(DeletionRequest((name,))) for name in ("s1", "s2", "s3")}
    finish(coordinator)
    kinds = [record.kind for record in Log(system.store).advance()][-6:]
    assert kinds == ["request", "request", "request", "commit", "erased", "completed"]
    erased = ErasedBody.all_from(next(each for each in Log(system.store).advance() if each.kind == "erased"))
    assert [each.rows for each in erased] == [1, 1, 1]
    for name, deletion in deletions.items():
        receipt = coordinator.receipt(deletion.id)
        assert verify_receipt(receipt, load_signing_key(system.keys).public_key()).rows == 1
        assert covers(receipt, system.hash_key, name)
        for other in deletions.keys() - {name}:
            assert sample_hash(system.hash_key, other) not in json.dumps(receipt)
            assert deletions[other].id not in json.dumps(receipt)
