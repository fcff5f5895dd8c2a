"""Work in kept threads."""

import threading
import time

import pytest

from lmeraser.parallel import THREADS, in_parallel


def test_results_are_in_the_order_of_the_values_although_the_first_ends_last() -> None:
    last_has_run = threading.Event()

    def work(value: int) -> int:
        if value == 0:
            assert last_has_run.wait(30)
        if value == 9:
            last_has_run.set()
        return value * value

    assert in_parallel(work, range(10)) == [value * value for value in range(10)]


def test_nothing_to_do_gives_nothing() -> None:
    assert in_parallel(str, []) == []


def test_work_that_calls_it_again_ends_although_every_thread_is_taken() -> None:
    def outer(value: int) -> list[int]:
        return in_parallel(lambda inner: value + inner, range(3))

    values = range(4 * THREADS)
    assert in_parallel(outer, values) == [[value, value + 1, value + 2] for value in values]


def test_when_a_piece_fails_those_that_had_begun_end_first_and_the_rest_is_not_begun() -> None:
    begun = threading.Barrier(2)
    ended: list[int] = []
    called: list[int] = []

    def work(value: int) -> None:
        called.append(value)
        if value < 2:
            begun.wait(30)
        if value == 0:
            raise OSError("the disk is full")
        time.sleep(0.2)
        ended.append(value)

    with pytest.raises(OSError, match="the disk is full"):
        in_parallel(work, range(10 * THREADS))
    assert 1 in ended
    assert sorted(called) == sorted([0, *ended])
    assert len(called) < 10 * THREADS
    count = len(called)
    time.sleep(0.3)
    assert len(called) == count
