"""The local store: whole objects or none, one winner of a race, and no way out of its folder."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lmeraser.errors import LostRaceError, StoreError
from lmeraser.store import LocalStore, unfenced

OBJECT_BYTES = 300_000

# Each object is one byte, repeated: a half-written or a mixed object shows.
WRITER = f"""
import itertools, sys
from pathlib import Path
from lmeraser.errors import LostRaceError
from lmeraser.store import LocalStore
store = LocalStore(Path(sys.argv[1]))
for turn in itertools.count():
    data = bytes([turn % 251]) * {OBJECT_BYTES}
    store.put(f"put/{{turn % 5}}", data)
    store.put_if_absent(f"absent/{{turn}}", data)
    print(turn, flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_store_that_was_never_written_has_no_names(store: LocalStore, tmp_path: Path) -> None:
    assert store.names() == []
    store.purge("a/b", unfenced)
    store.purge_partial(lambda _: False, unfenced)
    assert not (tmp_path / "store").exists()


def test_purge_removes_the_bytes_from_the_folder(store: LocalStore, tmp_path: Path) -> None:
    store.put("rows/a", b"private")
    store.put("rows/b", b"other")
    store.purge("rows/a", unfenced)
    assert not store.exists("rows/a")
    assert store.names() == ["rows/b"]
    assert files_below(tmp_path) == ["store/rows/b"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_may_read_its_files(tmp_path: Path, umask: int) -> None:
    seen: dict[str, int] = {}
    before = os.umask(umask)
    try:
        store = LocalStore(tmp_path / "above" / "store")
        store.put("rows/cluster/a", b"private")
        store.put("rows/cluster/a", b"private again")
        store.put_if_absent("log/1", b"record")
        with store._written("rows/1", b"ids in clear") as partial:
            seen[partial.name] = partial.stat().st_mode & 0o777
    finally:
        os.umask(before)
    seen |= {str(path): path.stat().st_mode & 0o777 for path in (tmp_path / "above").rglob("*") if path.is_file()}
    assert set(seen.values()) == {0o600}
    folders = [tmp_path / "above", *(path for path in (tmp_path / "above").rglob("*") if path.is_dir())]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_a_folder_that_is_linked_into_itself_is_kept_once(store: LocalStore, tmp_path: Path) -> None:
    store.put("rows/a", b"1")
    (tmp_path / "store" / "rows" / "loop").symlink_to(tmp_path / "store")
    assert [data for _, data in store.kept()] == [b"1"]


def test_a_write_leaves_nothing_next_to_the_object(store: LocalStore, tmp_path: Path) -> None:
    store.put("rows/a", b"1")
    store.put("rows/a", b"2")
    store.put_if_absent("log/1", b"1")
    with pytest.raises(LostRaceError):
        store.put_if_absent("log/1", b"2")
    assert files_below(tmp_path / "store") == ["log/1", "rows/a"]


OUTSIDE = ["..", "../a", "a/../../b", "a/../b", "a/..", "/a", "/etc/passwd", "", ".", "../store/a", "../store2/a"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_the_folder_is_refused(store: LocalStore, tmp_path: Path, name: str) -> None:
    store.put("a/kept", b"")
    before = files_below(tmp_path)
    for call in (
        lambda: store.put(name, b"x"),
        lambda: store.put_if_absent(name, b"x"),
        lambda: store.get(name),
        lambda: store.exists(name),
        lambda: store.purge(name, unfenced),
    ):
        with pytest.raises(StoreError, match="is not an object name") as caught:
            call()
        assert repr(name) in str(caught.value)
    assert files_below(tmp_path) == before


def test_the_folders_own_absolute_path_is_refused_as_a_name(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "neighbour").write_bytes(b"private")
    with pytest.raises(StoreError):
        store.get(str(tmp_path / "neighbour"))


def test_a_folder_where_an_object_should_be_is_an_error_of_the_store(store: LocalStore) -> None:
    store.put("rows/a/1", b"")
    with pytest.raises(StoreError, match="rows/a"):
        store.get("rows/a")
    with pytest.raises(StoreError, match="rows/a"):
        store.put("rows/a", b"x")
    with pytest.raises(StoreError, match="rows/a/1/2"):
        store.put("rows/a/1/2", b"x")
    assert store.names() == ["rows/a/1"]


def test_a_file_where_the_store_should_be_is_an_error_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot write a"):
        LocalStore(tmp_path / "file").put("a", b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_an_error_of_the_store(store: LocalStore, tmp_path: Path) -> None:
    store.put("rows/a", b"kept")
    folders = [tmp_path / "store", *(path for path in (tmp_path / "store").rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o500)
    try:
        calls: list[Callable[[], None]] = [
            lambda: store.put("rows/b", b""),
            lambda: store.put("rows/a", b""),
            lambda: store.put_if_absent("log/1", b""),
            lambda: store.purge("rows/a", unfenced),
        ]
        for call in calls:
            with pytest.raises(StoreError, match="Permission denied"):
                call()
        assert store.get("rows/a") == b"kept"
    finally:
        for folder in folders:
            folder.chmod(0o700)


@pytest.fixture
def killed(tmp_path: Path) -> tuple[LocalStore, int]:
    """A store whose writer was killed in the middle, and the last turn that it had reported."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        last = -1
        for line in process.stdout:
            last = int(line)
            if last == 25:
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return LocalStore(tmp_path / "store"), last


def test_a_killed_writer_leaves_only_whole_objects(killed: tuple[LocalStore, int]) -> None:
    store, last = killed
    names = store.names()
    assert {f"absent/{turn}" for turn in range(last + 1)} | {f"put/{place}" for place in range(5)} <= set(names)
    assert len(names) <= last + 1 + 5 + 1
    for name in names:
        data = store.get(name)
        assert len(data) == OBJECT_BYTES
        assert data == data[:1] * OBJECT_BYTES
        if name.startswith("absent/"):
            assert data[0] == int(name.removeprefix("absent/")) % 251


def test_a_half_written_file_of_a_killed_writer_is_not_an_object_and_can_be_purged(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from lmeraser.store import LocalStore
fsync = os.fsync
def killed_at_the_data(descriptor):
    if os.fstat(descriptor).st_size >= 5_000_000:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.fsync = killed_at_the_data
store = LocalStore(Path(sys.argv[1]))
store.put("rows/kept", b"kept")
getattr(store, sys.argv[2])(sys.argv[3], bytes(5_000_000))
"""
    store = LocalStore(tmp_path / "store")
    for method, name in (("put", "rows/lost~a"), ("put_if_absent", "log/lost")):
        process = subprocess.run([sys.executable, "-c", code, store.uri, method, name], check=False)
        assert process.returncode == -signal.SIGKILL
    assert store.names() == ["rows/kept"]
    partial = set(files_below(tmp_path / "store")) - {"rows/kept"}
    assert len(partial) == 2

    names: list[str] = []

    def keep(name: str) -> bool:
        names.append(name)
        return name == "log/lost"

    store.purge_partial(keep, unfenced)
    assert sorted(names) == ["log/lost", "rows/lost~a"]
    assert len(set(files_below(tmp_path / "store")) & partial) == 1

    store.purge_partial(lambda _: False, unfenced)
    assert files_below(tmp_path / "store") == ["rows/kept"]
    assert store.get("rows/kept") == b"kept"


def test_a_folder_that_cannot_be_listed_does_not_count_as_empty(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("rows/a/1", b"row")
    store.put("rows/b/1", b"row")
    broken = f"{store.uri}/rows/a"
    scandir = os.scandir

    def scandir_or_fail(path: str) -> object:
        if str(path) == broken:
            raise OSError(errno.EIO, "Input/output error", broken)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir_or_fail)
    with pytest.raises(StoreError, match="cannot list"):
        store.names("rows/")
    with pytest.raises(StoreError, match="cannot list"):
        store.purge_below("rows/", lambda _: False, unfenced)
    assert (broken, None) in list(store.kept())
    monkeypatch.undo()
    assert store.names("rows/") == ["rows/a/1", "rows/b/1"]


def test_the_check_of_a_folder_leaves_nothing_behind(store: LocalStore, tmp_path: Path) -> None:
    store.check()
    assert files_below(tmp_path) == []
    store.put("rows/a", b"1")
    store.check()
    assert store.names() == ["rows/a"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_the_check_reports_a_disk_without_hard_links(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_link(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", no_link)
    with pytest.raises(StoreError, match=rf"{re.escape(store.uri)}: its file system has no hard links .*ext4"):
        store.check()
    assert files_below(tmp_path) == []


def test_the_check_reports_a_link_that_replaces_a_file(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", lambda old, new: Path(new).write_bytes(Path(old).read_bytes()))
    with pytest.raises(StoreError, match="its log could not be fenced"):
        store.check()
    assert files_below(tmp_path) == []


def test_the_check_reports_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match=r"cannot write probe/\w+ in .*/file"):
        LocalStore(tmp_path / "file").check()


def test_a_purge_removes_the_folders_that_it_empties_and_no_write_fails_because_of_it(
    store: LocalStore, tmp_path: Path
) -> None:
    ended = threading.Event()

    def purge() -> None:
        while not ended.is_set():
            store.purge_below("rows/", lambda name: name.endswith("kept"), unfenced)

    with ThreadPoolExecutor(1) as thread:
        purging = thread.submit(purge)
        try:
            for number in range(400):
                store.put(f"rows/{number % 3}/{number % 2}/{number}", b"private")
                store.put_if_absent(f"rows/{number % 3}/once {number}", b"private")
        finally:
            ended.set()
        purging.result()
    store.put("rows/0/kept", b"")
    store.purge_below("rows/", lambda name: name.endswith("kept"), unfenced)
    assert sorted(path.name for path in (tmp_path / "store" / "rows").rglob("*")) == ["0", "kept"]
