"""What every store promises, on a folder and on buckets without and with versions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from lmeraser.errors import LostRaceError, ObjectMissingError, StoreError
from lmeraser.store import Store, open_store, unfenced

OBJECT_BYTES = 300_000
pytestmark = pytest.mark.parametrize("medium", ["folder", "s3", "s3 versioned"])


@pytest.fixture
def store(new_store: Callable[[str], Store]) -> Store:
    return new_store("store")


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000])
@pytest.mark.parametrize("name", ["a", "rows/3f/9c.parquet", "log/0000000001.json", "a b/ü~%2F.x", ".hidden"])
def test_an_object_comes_back_as_it_was_put(store: Store, name: str, data: bytes) -> None:
    store.put(name, data)
    assert store.get(name) == data
    assert store.exists(name)
    assert store.names() == [name]


def test_another_process_sees_the_object(store: Store) -> None:
    store.put("a/b", b"there")
    code = "import sys; from lmeraser.store import open_store; print(open_store(sys.argv[1]).get('a/b'))"
    found = subprocess.run([sys.executable, "-c", code, store.uri], capture_output=True, text=True, check=True)
    assert found.stdout == "b'there'\n"


def test_a_second_put_replaces_the_object(store: Store) -> None:
    store.put("a", b"a longer object")
    store.put("a", b"short")
    assert store.get("a") == b"short"
    assert store.names() == ["a"]


def test_a_missing_object_is_named(store: Store) -> None:
    for name in ("a", "rows/a"):
        with pytest.raises(ObjectMissingError, match=f"no object {name}"):
            store.get(name)
        assert not store.exists(name)
    store.put("rows/b", b"")
    with pytest.raises(ObjectMissingError):
        store.get("rows/b/c")
    assert not store.exists("rows")
    assert not store.exists("rows/b/c")


def test_put_if_absent_writes_a_new_object(store: Store) -> None:
    store.put_if_absent("log/1", b"one")
    assert store.get("log/1") == b"one"


def test_put_if_absent_keeps_an_existing_object(store: Store) -> None:
    store.put("log/1", b"one")
    for data in (b"other", b"one", b""):
        with pytest.raises(LostRaceError, match="log/1"):
            store.put_if_absent("log/1", data)
    assert store.get("log/1") == b"one"


def test_put_if_absent_may_write_a_purged_name_again(store: Store) -> None:
    store.put_if_absent("log/1", b"one")
    store.purge("log/1", unfenced)
    store.put_if_absent("log/1", b"two")
    assert store.get("log/1") == b"two"


def test_of_many_concurrent_put_if_absent_exactly_one_wins(store: Store) -> None:
    writers, rounds = 8, 12
    together = Barrier(writers)

    def race(writer: int) -> list[bool]:
        own = open_store(store.uri)
        won = []
        for turn in range(rounds):
            together.wait()
            try:
                own.put_if_absent(f"log/{turn}", bytes([writer]) * 10_000)
                won.append(True)
            except LostRaceError:
                won.append(False)
        return won

    with ThreadPoolExecutor(writers) as pool:
        results = list(pool.map(race, range(writers)))
    for turn in range(rounds):
        winners = [writer for writer in range(writers) if results[writer][turn]]
        assert len(winners) == 1
        assert store.get(f"log/{turn}") == bytes(winners) * 10_000


def test_readers_never_see_half_of_an_object(store: Store) -> None:
    together = Barrier(3)
    store.put("a", b"0" * OBJECT_BYTES)

    def write(digit: bytes) -> None:
        together.wait()
        for _ in range(15):
            store.put("a", digit * OBJECT_BYTES)

    def read() -> set[bytes]:
        together.wait()
        return {store.get("a") for _ in range(60)}

    with ThreadPoolExecutor(3) as pool:
        reader = pool.submit(read)
        for writer in [pool.submit(write, digit) for digit in (b"1", b"2")]:
            writer.result()
        assert reader.result() <= {digit * OBJECT_BYTES for digit in (b"0", b"1", b"2")}


def test_names_are_those_that_start_with_the_prefix_in_order(store: Store) -> None:
    names = ["rows/b/1", "rows/a/2", "rows/a/10", "row/x", "log/2", "log/10", "rows-old/1", "Rows/z"]
    for name in names:
        store.put(name, b"")
    for prefix in ("", "rows/", "rows", "row", "rows/a/", "rows/a/1", "log/1", "nothing", "nothing/here", "log/2"):
        assert store.names(prefix) == sorted(name for name in names if name.startswith(prefix))


def test_purging_a_missing_object_does_nothing(store: Store) -> None:
    store.put("rows/a", b"")
    store.purge("rows/b", unfenced)
    store.purge("nowhere/b", unfenced)
    store.purge("rows/a", unfenced)
    store.purge("rows/a", unfenced)
    assert store.names() == []


def test_purging_unfinished_writes_leaves_every_object(store: Store) -> None:
    store.put("rows/a", b"1")
    store.put("log/1", b"2")
    store.purge_partial(lambda _: False, unfenced)
    assert (store.get("rows/a"), store.get("log/1")) == (b"1", b"2")


@pytest.mark.parametrize("name", ["", ".", "..", "/a", "a/", "a//b", "a/../b", "./a"])
def test_a_name_that_is_not_a_relative_path_is_refused(store: Store, name: str) -> None:
    calls = (store.get, store.exists, lambda name: store.purge(name, unfenced), lambda name: store.put(name, b"x"))
    for call in calls:
        with pytest.raises(StoreError, match="is not an object name") as caught:
            call(name)
        assert repr(name) in str(caught.value)


def test_purging_below_a_prefix_removes_only_what_is_not_kept(store: Store) -> None:
    for name in ("rows/a/1", "rows/a/2", "rows/b/1", "rows-old/1", "log/1"):
        store.put(name, name.encode())
        store.put(name, b"again")
    store.purge_below("rows/", lambda name: name.startswith("rows/b/"), unfenced)
    assert store.names() == ["log/1", "rows-old/1", "rows/b/1"]
    kept = [name for name, _ in store.kept()]
    assert not [name for name in kept if "rows/a" in name]
    store.purge_below("nothing/", lambda _: False, unfenced)
    assert len(list(store.kept())) == len(kept)


def test_purging_a_name_leaves_names_that_begin_with_it(store: Store) -> None:
    for name in ("log/1", "log/10", "log/1.old"):
        store.put(name, b"")
    store.purge("log/1", unfenced)
    assert store.names() == ["log/1.old", "log/10"]


def test_everything_that_is_kept_is_listed_with_its_bytes(store: Store) -> None:
    store.put("rows/a", b"first")
    store.put("log/1", b"second")
    assert sorted(data for _, data in store.kept() if data is not None) == [b"first", b"second"]
    assert all(any(name in where for where, _ in store.kept()) for name in store.names())


def test_the_check_passes_where_everything_is_allowed_and_leaves_nothing_behind(store: Store) -> None:
    store.check()
    assert list(store.kept()) == []


def test_stores_next_to_each_other_do_not_see_each_other(new_store: Callable[[str], Store]) -> None:
    one, other = new_store("a"), new_store("ab")
    one.put("rows/1", b"one")
    other.put("rows/1", b"other")
    one.put("rows/2", b"one")
    assert (one.names(), other.names()) == (["rows/1", "rows/2"], ["rows/1"])
    one.purge_below("", lambda _: False, unfenced)
    assert (one.names(), other.get("rows/1")) == ([], b"other")
