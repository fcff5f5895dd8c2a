"""Deletions that name what the system does not hold cannot make the log grow without limit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_system import System, finish

from actors.allowance import Allowance
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import RateLimitError
from lmeraser.state.log import Log

SystemOf = Callable[..., System]


def taken(allowance: Allowance, unknown: int, rows: int, most: int) -> int:
    for count in range(most):
        try:
            allowance.take(unknown, rows)
        except RateLimitError:
            return count
    return most


def test_a_hundred_requests_without_rows_are_allowed_at_once_and_then_one_every_ten_seconds() -> None:
    now_s = [0.0]
    allowance = Allowance(lambda: now_s[0])
    assert taken(allowance, 1, 0, 1000) == 100
    now_s[0] = 9.9
    assert taken(allowance, 1, 0, 10) == 0
    now_s[0] = 20.1
    assert taken(allowance, 1, 0, 10) == 2
    now_s[0] = 1e6
    assert taken(allowance, 1, 0, 1000) == 100


def test_unknown_ids_count_and_not_requests() -> None:
    assert taken(Allowance(lambda: 0.0), 100_000, 0, 10) == 1
    assert taken(Allowance(lambda: 0.0), 30_000, 0, 10) == 3


def test_a_request_that_covers_rows_may_overdraw_the_allowance_but_not_without_limit() -> None:
    allowance = Allowance(lambda: 0.0)
    assert taken(allowance, 1, 0, 1000) == 100
    assert taken(allowance, 1, 1, 1000) == 1000
    assert taken(allowance, 0, 1, 10**5) == 10**5
    assert taken(allowance, 50_000, 1, 10) == 1


@pytest.mark.slow
def test_a_refused_request_leaves_no_record(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    coordinator = system.coordinator()
    coordinator.delete(DeletionRequest(subject_ids=tuple(f"nobody{number}" for number in range(100_000))))
    before = len(Log(system.store).advance())
    with pytest.raises(RateLimitError, match="100000 at once"):
        coordinator.delete(DeletionRequest(subject_ids=("nobody",)))
    assert len(Log(system.store).advance()) == before
    # A row in the store is still erased.
    assert coordinator.delete(DeletionRequest(("s3",), ("nobody",))).rows == 1
    finish(coordinator)
    assert system.newest().rows == 23
