"""The log: what is appended is read again, a broken chain is found, and one of two writers wins."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier
from typing import Any

import pytest

from lmeraser.errors import LogError, LostRaceError
from lmeraser.state.log import GENESIS, Log
from lmeraser.store import Store, unfenced

both = pytest.mark.parametrize("medium", ["folder", "s3"])


@pytest.fixture
def store(new_store: Callable[[str], Store]) -> Store:
    return new_store("store")


def object_name(number: int) -> str:
    return f"log/{number:010d}.json"


def filled(store: Store, records: int) -> Log:
    log = Log(store)
    for number in range(1, records + 1):
        log.append("request", 1, {"n": number})
    return log


def rewritten(store: Store, number: int, **changes: Any) -> None:
    """Put another record where one was, as whoever can write to the store could."""
    value = json.loads(store.get(object_name(number)))
    store.put(object_name(number), json.dumps({**value, **changes}).encode())


def numbers(log: Log) -> list[int]:
    return [record.number for record in log.advance()]


def test_a_new_log_is_empty(store: Store) -> None:
    log = Log(store)
    assert log.head is None
    assert log.advance() == []


@both
def test_what_is_appended_is_read_by_another(store: Store) -> None:
    bodies: list[dict[str, Any]] = [{}, {"samples": ["ab", "cd"], "note": "naïve"}, {"deep": {"list": [1, None, True]}}]
    log = Log(store)
    written = [log.append("request", 3, body) for body in bodies]
    read = Log(store).advance()
    assert read == written
    assert [record.body for record in read] == bodies
    assert [(record.number, record.kind, record.term) for record in read] == [
        (1, "request", 3),
        (2, "request", 3),
        (3, "request", 3),
    ]


def test_every_record_contains_the_sha256_of_the_previous_one(store: Store) -> None:
    filled(store, 4)
    data = [store.get(object_name(number)) for number in range(1, 5)]
    previous = [json.loads(each)["previous"] for each in data]
    assert previous == [GENESIS, *(hashlib.sha256(each).hexdigest() for each in data[:-1])]
    assert [record.digest for record in Log(store).advance()] == [hashlib.sha256(each).hexdigest() for each in data]


def test_a_record_says_when_it_was_written_in_utc(store: Store) -> None:
    at = datetime.fromisoformat(Log(store).append("term", 1, {}).at)
    assert at.tzinfo == UTC


def test_the_position_moves_with_what_is_appended_and_what_is_read(store: Store) -> None:
    writer, reader = Log(store), Log(store)
    first = writer.append("term", 1, {})
    assert writer.head == first
    assert reader.head is None
    assert reader.advance() == [first]
    assert reader.head == first
    assert reader.advance() == []
    later = [writer.append("request", 1, {}), writer.append("commit", 1, {})]
    assert reader.advance() == later
    assert writer.advance() == []
    assert reader.append("erased", 2, {}).number == 4
    assert numbers(writer) == [4]


def test_one_record_is_found_by_its_number(store: Store) -> None:
    filled(store, 3)
    log = Log(store)
    assert log.record(2).body == {"n": 2}
    assert log.head is None


@pytest.mark.parametrize("number", [0, 4, -1])
def test_a_missing_record_is_named(store: Store, number: int) -> None:
    log = filled(store, 3)
    with pytest.raises(LogError, match=f"no record {number}"):
        log.record(number)


@both
def test_a_log_of_more_than_ten_records_stays_in_order(store: Store) -> None:
    filled(store, 12)
    assert numbers(Log(store)) == list(range(1, 13))


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("changes", [{"body": {"n": 99}}, {"kind": "failed"}, {"term": 7}, {"at": "2001-01-01"}])
def test_a_changed_record_is_found(store: Store, number: int, changes: dict[str, Any]) -> None:
    filled(store, 4)
    rewritten(store, number, **changes)
    with pytest.raises(LogError, match=rf"record {number + 1} does not follow record {number}"):
        Log(store).advance()


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_changed_link_is_found(store: Store, number: int) -> None:
    filled(store, 4)
    rewritten(store, number, previous="ab" * 32)
    with pytest.raises(LogError, match=rf"record {number} does not follow record {number - 1}"):
        Log(store).advance()


def test_a_change_that_keeps_the_meaning_is_found(store: Store) -> None:
    filled(store, 3)
    store.put(object_name(2), store.get(object_name(2)) + b"\n")
    with pytest.raises(LogError, match="record 3 does not follow record 2"):
        Log(store).advance()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_missing_record_is_found(store: Store, number: int) -> None:
    filled(store, 4)
    store.purge(object_name(number), unfenced)
    with pytest.raises(LogError, match=f"record {number} is missing"):
        Log(store).advance()


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 3), (1, 4)])
def test_reordered_records_are_found(store: Store, one: int, other: int) -> None:
    filled(store, 4)
    first, second = store.get(object_name(one)), store.get(object_name(other))
    store.put(object_name(one), second)
    store.put(object_name(other), first)
    with pytest.raises(LogError, match=f"record {one} says that it is number {other}"):
        Log(store).advance()


def test_reordered_and_renumbered_records_are_found(store: Store) -> None:
    filled(store, 4)
    bodies = {number: json.loads(store.get(object_name(number)))["body"] for number in (2, 3)}
    rewritten(store, 2, body=bodies[3])
    rewritten(store, 3, body=bodies[2])
    with pytest.raises(LogError, match="does not follow"):
        Log(store).advance()


def test_a_record_from_another_log_is_found(store: Store, new_store: Callable[[str], Store]) -> None:
    filled(store, 3)
    other = new_store("other")
    log = Log(other)
    for number in (1, 2):
        log.append("request", 2, {"n": number})
    store.put(object_name(2), other.get(object_name(2)))
    with pytest.raises(LogError, match="record 2 does not follow record 1"):
        Log(store).advance()


def test_a_record_that_does_not_follow_what_was_read_before_is_found(store: Store) -> None:
    reader = Log(store)
    filled(store, 2)
    reader.advance()
    # From here on another history, whole in itself.
    rewritten(store, 2, body={"n": 99})
    changed = Log(store)
    changed.advance()
    changed.append("request", 1, {"n": 3})
    assert numbers(Log(store)) == [1, 2, 3]
    with pytest.raises(LogError, match="record 3 does not follow record 2"):
        reader.advance()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"7", b"{}", b"\xff\xfe", b'{"number":2}', b"null", b'"text"', b"{}{}"]
)
def test_a_record_that_cannot_be_read_is_named(store: Store, data: bytes) -> None:
    filled(store, 3)
    store.put(object_name(2), data)
    with pytest.raises(LogError, match="record 2 cannot be read"):
        Log(store).advance()
    with pytest.raises(LogError, match="record 2 cannot be read"):
        Log(store).record(2)


@both
def test_a_foreign_object_among_the_records_is_named(store: Store) -> None:
    filled(store, 2)
    store.put("log/0000000001.json.old", b"{}")
    with pytest.raises(LogError, match=r"found log/0000000001\.json\.old"):
        Log(store).advance()


@both
def test_of_two_appends_at_one_position_the_second_loses(store: Store) -> None:
    one, other = filled(store, 1), Log(store)
    other.advance()
    won = one.append("request", 1, {"by": "one"})
    with pytest.raises(LostRaceError):
        other.append("request", 2, {"by": "other"})
    assert Log(store).advance()[1:] == [won]


@both
def test_the_loser_continues_after_it_has_read_what_the_winner_wrote(store: Store) -> None:
    one, other = Log(store), Log(store)
    won = one.append("request", 1, {"by": "one"})
    with pytest.raises(LostRaceError):
        other.append("request", 2, {"by": "other"})
    assert other.head is None
    assert other.advance() == [won]
    assert other.append("request", 2, {"by": "other"}).number == 2
    assert [record.body["by"] for record in Log(store).advance()] == ["one", "other"]


@both
def test_concurrent_appends_form_one_chain_and_none_is_lost(store: Store) -> None:
    writers, each = 4, 6
    together = Barrier(writers)

    def write(writer: int) -> int:
        log, lost = Log(store), 0
        together.wait()
        for place in range(each):
            while True:
                try:
                    log.append("request", writer, {"writer": writer, "place": place})
                    break
                except LostRaceError:
                    lost += 1
                    log.advance()
        return lost

    with ThreadPoolExecutor(writers) as pool:
        assert sum(pool.map(write, range(writers))) >= writers - 1
    records = Log(store).advance()
    assert [record.number for record in records] == list(range(1, writers * each + 1))
    for writer in range(writers):
        assert [r.body["place"] for r in records if r.body["writer"] == writer] == list(range(each))
