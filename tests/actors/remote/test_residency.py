"""Which owners have a process, and which one ends when another owner needs the room."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.remote.residency import Residency

KEYS = "abcdefgh"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def residency(
    most: int, clock: Clock | None = None, most_tuned: int | None = None, slots: int = 1, **rows: int
) -> Residency:
    tuned = most if most_tuned is None else most_tuned
    made = Residency(lambda: most, lambda: tuned, lambda: slots, idle_s=60.0, clock=clock or Clock())
    made.update_rows(rows)
    return made


def call_each(of: Residency, clock: Clock, keys: str, to_tune: bool = False) -> None:
    for key in keys:
        clock.now_s += 1
        of.called(key, to_tune=to_tune)


def test_the_least_recently_called_owner_is_ended_first_and_only_as_many_as_needed() -> None:
    clock = Clock()
    owners = residency(3, clock, a=1, b=1, c=1, d=1, e=1)
    call_each(owners, clock, "abc")
    call_each(owners, clock, "a")
    assert owners.to_end(["d"], at_work=[]) == ["b"]
    assert owners.to_end(["d", "e"], at_work=[]) == ["b", "c"]
    assert owners.to_end(["b", "c"], at_work=[]) == []
    owners.ended(["b"])
    assert owners.to_end(["d"], at_work=[]) == []


def test_an_owner_at_work_is_ended_only_if_there_is_no_other() -> None:
    clock = Clock()
    owners = residency(2, clock, a=1, b=1, c=1, d=1)
    call_each(owners, clock, "ab")
    assert owners.to_end(["c"], at_work=["a"]) == ["b"]
    assert owners.to_end(["c", "d"], at_work=["a"]) == ["b", "a"]


def test_only_as_many_owners_that_have_tuned_stay_as_fit_on_the_gpus() -> None:
    clock = Clock()
    owners = residency(4, clock, most_tuned=2, a=1, b=1, c=1, d=1, e=1)
    call_each(owners, clock, "ab", to_tune=True)
    call_each(owners, clock, "cd")
    assert owners.tuned == {"a", "b"}
    # One that only writes rows needs none of it, and the least recently called makes room.
    assert owners.to_end(["c"], at_work=[]) == []
    assert owners.to_end(["e"], at_work=[]) == ["a"]
    assert owners.to_end(["c"], at_work=[], to_tune=True) == ["a"]
    assert owners.to_end(["c"], at_work=["a"], to_tune=True) == ["b"]
    assert owners.to_end(["a"], at_work=[], to_tune=True) == []
    # One that goes makes both kinds of room.
    assert owners.to_end(["e"], at_work=["a"], to_tune=True) == ["b"]


def test_a_wave_takes_resident_owners_first_and_leaves_room_for_those_at_work() -> None:
    clock = Clock()
    owners = residency(3, clock, a=1, b=2, c=3, d=4, e=5)
    call_each(owners, clock, "ab")
    assert owners.wave("acde", at_work=["b"]) == ["a", "e"]
    assert owners.wave("abcde", at_work=["b"]) == ["b", "a", "e"]
    assert residency(1, a=1, b=1).wave("a", at_work=["b"]) == ["a"]


def test_owners_of_the_largest_clusters_are_started_ahead_while_there_is_room() -> None:
    owners = residency(2, a=10, b=30, c=20)
    started = []
    while (key := owners.next_ahead()) is not None:
        started.append(key)
        owners.called(key)
    assert started == ["b", "c"]
    owners.drop(["b"])
    owners.ended(["b"])
    assert owners.next_ahead() == "a"


def test_every_owner_stays_where_there_are_no_more_clusters_than_slots() -> None:
    clock = Clock()
    owners = residency(3, clock, slots=2, a=1, b=1)
    call_each(owners, clock, "ab", to_tune=True)
    clock.now_s += 1000
    assert owners.all_stay()
    assert owners.idle(at_work=[]) == []
    owners.update_rows({"c": 1})
    assert not owners.all_stay()
    assert sorted(owners.idle(at_work=[])) == ["a", "b"]
    owners.drop(["c"])
    assert owners.all_stay()


def test_an_idle_owner_is_ended_unless_it_never_tuned_and_its_cluster_is_large() -> None:
    clock = Clock()
    owners = residency(2, clock, a=10, b=20, c=30)
    call_each(owners, clock, "ac")
    assert owners.idle(at_work=[]) == []
    clock.now_s += 61
    assert owners.idle(at_work=[]) == ["a"]
    assert owners.idle(at_work=["a"]) == []
    call_each(owners, clock, "c", to_tune=True)
    call_each(owners, clock, "c")
    clock.now_s += 61
    assert owners.idle(at_work=[]) == ["a", "c"]


@pytest.mark.slow
@settings(max_examples=200)
@given(
    most=st.integers(1, 5),
    most_tuned=st.integers(1, 5),
    calls=st.lists(st.tuples(st.sets(st.sampled_from(KEYS), min_size=1), st.sets(st.sampled_from(KEYS)))),
)
def test_the_limit_of_residents_holds_and_every_job_is_done(
    most: int, most_tuned: int, calls: list[tuple[set[str], set[str]]]
) -> None:
    clock = Clock()
    owners = residency(most, clock, most_tuned, **dict.fromkeys(KEYS, 1))
    for called, tuning in calls:
        pending = set(called)
        at_work = set(sorted(tuning & owners.resident)[: most - 1])
        while pending:
            wave = owners.wave(pending, at_work)
            assert wave and set(wave) <= pending
            leaving = owners.to_end(wave, at_work)
            # A tuning is given up only where nothing else could go.
            assert most == 1 or not at_work & set(leaving)
            owners.ended(leaving)
            call_each(owners, clock, "".join(wave))
            assert len(owners.resident) <= most
            pending -= set(wave)
        for key in sorted(tuning):
            owners.ended(owners.to_end([key], at_work, to_tune=True))
            owners.called(key, to_tune=True)
            assert len(owners.resident) <= most
            assert len(owners.tuned) <= most_tuned
