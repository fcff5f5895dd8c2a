"""Requests that cannot be erased now hold up no other, and are never given up."""

from __future__ import annotations

from itertools import pairwise

from actors.backlog import LONGEST_PAUSE_S, MIN_BACKOFF_S, Backlog


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def backlog(*names: str) -> tuple[Backlog, Clock]:
    clock = Clock()
    made = Backlog(clock)
    for name in names:
        made.add(name)
    return made, clock


def test_all_requests_are_erased_together() -> None:
    waiting, _ = backlog("a", "b", "c")
    assert waiting.due() == ["a", "b", "c"]
    waiting.done("b")
    assert (waiting.due(), len(waiting)) == (["a", "c"], 2)


def test_after_a_failure_each_request_is_erased_alone_and_one_that_fails_is_put_off() -> None:
    waiting, clock = backlog("a", "b")
    waiting.failed(["a", "b"], "no memory")
    assert (waiting.due(), waiting.held_up()) == (["a"], {})
    waiting.failed(["a"], "no memory")
    assert (waiting.due(), waiting.held_up()) == (["b"], {"a": "no memory"})
    waiting.done("b")
    assert (waiting.due(), len(waiting)) == ([], 1)
    clock.now = MIN_BACKOFF_S
    assert waiting.due() == ["a"]
    waiting.done("a")
    assert (len(waiting), waiting.held_up()) == (0, {})


def test_a_request_that_always_fails_is_tried_once_a_minute_and_holds_up_no_other() -> None:
    waiting, clock = backlog("bad")
    tried = []
    for second in range(3600):
        clock.now = float(second)
        waiting.add(f"good-{second}")
        while due := waiting.due():
            if "bad" in due:
                tried.append(clock.now)
                waiting.failed(due, "no memory")
            else:
                for name in due:
                    waiting.done(name)
        # Those that came with it were found to be good.
        assert list(waiting.held_up()) == ["bad"]
    gaps = [later - earlier for earlier, later in pairwise(tried)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == LONGEST_PAUSE_S
    assert len(tried) > 60


def test_requests_that_are_erased_alone_are_not_starved_by_new_ones() -> None:
    waiting, _ = backlog("a", "b")
    waiting.failed(["a", "b"], "no memory")
    waiting.add("c")
    assert waiting.due() == ["a"]
    waiting.done("a")
    assert waiting.due() == ["b"]
    waiting.done("b")
    assert waiting.due() == ["c"]
