"""A store whose calls are observed answers as the store does, and reports each call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmeraser.errors import LostRaceError, ObjectMissingError, StoreError
from lmeraser.store import LocalStore, unfenced
from lmeraser.store.observed import ObservedStore, StoreCall


class BrokenStore(LocalStore):
    def get(self, name: str) -> bytes:
        raise StoreError(f"cannot read {name}")


def test_calls_answer_as_those_of_the_store_and_are_reported(tmp_path: Path) -> None:
    calls: list[StoreCall] = []
    plain = LocalStore(tmp_path)
    store = ObservedStore(plain, calls.append)
    store.put("a/1", b"one")
    store.put_if_absent("a/2", b"two")
    assert (store.uri, store.get("a/1"), store.exists("a/2")) == (plain.uri, b"one", True)
    assert store.names("a/") == ["a/1", "a/2"]
    store.purge("a/1", unfenced)
    store.purge_below("a/", lambda _: False, unfenced)
    store.purge_partial(lambda _: False, unfenced)
    store.check()
    assert (plain.names(), list(store.kept())) == ([], [])
    assert [(call.operation, call.name) for call in calls] == [
        ("put", "a/1"),
        ("put_if_absent", "a/2"),
        ("get", "a/1"),
        ("exists", "a/2"),
        ("names", "a/"),
        ("purge", "a/1"),
        ("purge_below", "a/"),
        ("purge_partial", ""),
        ("check", ""),
    ]
    assert not any(call.failed for call in calls)
    assert all(0 <= call.seconds < 60 for call in calls)


@pytest.mark.parametrize(
    ("kind", "call", "error", "failed"),
    [
        (LocalStore, lambda store: store.get("none"), ObjectMissingError, False),
        (LocalStore, lambda store: store.put_if_absent("there", b"again"), LostRaceError, False),
        (BrokenStore, lambda store: store.get("there"), StoreError, True),
    ],
)
def test_what_a_call_raises_is_raised_and_only_a_failure_is_reported_as_one(
    tmp_path: Path, kind: type[LocalStore], call: Callable[[Any], object], error: type[StoreError], failed: bool
) -> None:
    calls: list[StoreCall] = []
    store = ObservedStore(kind(tmp_path), calls.append)
    LocalStore(tmp_path).put("there", b"before")
    with pytest.raises(error):
        call(store)
    assert [each.failed for each in calls] == [failed]
