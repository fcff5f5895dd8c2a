"""A mirror of the log that follows it: nothing is read twice, and what failed once is done the next time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from counted_store import CountedStore
from small_system import System

from lmeraser.errors import LogError, StoreError
from lmeraser.proof.mirror import LogMirror
from lmeraser.state.layout import record_object
from lmeraser.state.log import Log
from lmeraser.store import LocalStore, unfenced

SystemOf = Callable[..., System]


def test_a_mirror_that_continues_reads_no_record_twice(
    system_of: SystemOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, target = system_of("minute", 24), LocalStore(tmp_path / "mirror")
    mirrored = LogMirror(system.store, target)
    records = mirrored.copy().records
    system.delete("s1")
    read: list[str] = []
    get = LocalStore.get

    def noted(self: LocalStore, name: str) -> bytes:
        read.append(name)
        return get(self, name)

    monkeypatch.setattr(LocalStore, "get", noted)
    found = mirrored.copy()
    assert found.added == found.records - records > 0
    assert min(int(name[4:-5]) for name in read if name.startswith("log/")) == records + 1
    read.clear()
    assert mirrored.copy() == replace(found, added=0)
    assert read == [f"log/{found.records + 1:010d}.json"]
    assert Log(target).advance() == Log(system.store).advance()


def test_a_mirror_continues_after_its_storage_failed(
    system_of: SystemOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, target = system_of("minute", 24), LocalStore(tmp_path / "mirror")
    mirrored = LogMirror(system.store, target)
    full = iter([False, True])
    put = LocalStore.put_if_absent

    def put_if_absent(self: LocalStore, name: str, data: bytes) -> None:
        if next(full, False):
            raise StoreError("no space left")
        put(self, name, data)

    monkeypatch.setattr(LocalStore, "put_if_absent", put_if_absent)
    with pytest.raises(StoreError, match="no space"):
        mirrored.copy()
    mirrored.copy()
    assert Log(target).advance() == Log(system.store).advance()


def test_two_programs_may_mirror_one_log_to_one_location_but_not_two_logs(system_of: SystemOf, tmp_path: Path) -> None:
    system, target = system_of("minute", 24), LocalStore(tmp_path / "mirror")
    shutil.copytree(system.store.uri, tmp_path / "copy")
    other = replace(system, store=LocalStore(tmp_path / "copy"))
    one, two, third = (LogMirror(store, target) for store in (system.store, system.store, other.store))
    one.copy()
    two.copy()
    system.delete("s1")
    other.delete("s2")
    one.copy()
    two.copy()
    with pytest.raises(LogError, match="another record"):
        third.copy()
    assert Log(target).advance() == Log(system.store).advance()


def test_a_mirror_that_is_opened_again_reads_neither_log_from_its_start(system_of: SystemOf, tmp_path: Path) -> None:
    system, target = system_of("minute", 24), CountedStore(tmp_path / "mirror")
    records = LogMirror(system.store, target).copy().records
    system.delete("s1")
    store, target = CountedStore(Path(system.store.uri)), CountedStore(tmp_path / "mirror")
    LogMirror(store, target).copy()
    assert [name for name in target.read if name.startswith("log/")] == [record_object(records)]
    assert min(name for name in store.read if name.startswith("log/")) == record_object(records)
    assert Log(target).advance() == Log(system.store).advance()


def test_a_mirror_that_lacks_a_record_is_refused(system_of: SystemOf, tmp_path: Path) -> None:
    system, target = system_of("minute", 24), LocalStore(tmp_path / "mirror")
    LogMirror(system.store, target).copy()
    target.purge(record_object(2), unfenced)
    with pytest.raises(LogError, match="log record 2 is missing"):
        LogMirror(system.store, target)
