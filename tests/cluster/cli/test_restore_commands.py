"""``lmeraser log mirror`` and ``lmeraser restore``, as an operator who lost a store runs them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from command_line import Run
from small_system import System, finish, samples
from stored_rows import rows_of
from until import until

from lmeraser.deletion import DeletionRequest
from lmeraser.errors import StoreError
from lmeraser.store import LocalStore

SystemOf = Callable[..., System]
ALL = samples(0, 24)


class Disaster(NamedTuple):
    """A store, a copy of it from before two deletions, and the path of a mirror that does not exist yet."""

    store: System
    copy: System
    mirror: Path


@pytest.fixture
def disaster(system_of: SystemOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disaster:
    # Where `residue` and `audit` look for Ray's files.
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "none"))
    system = system_of("minute", 24)
    system.delete("s1")
    shutil.copytree(system.store.uri, tmp_path / "copy")
    coordinator = system.coordinator()
    for sample_ids, subject_ids in ((["s3", "s4"], []), ([], ["u10"])):
        coordinator.delete(DeletionRequest(tuple(sample_ids), tuple(subject_ids)))
        finish(coordinator)
    return Disaster(system, replace(system, store=LocalStore(tmp_path / "copy")), tmp_path / "mirror")


def stored_ids(system: System) -> set[str]:
    """Ids of the rows in the row files."""
    return {name for entry in system.newest().clusters for name in rows_of(system.store, entry).sample_ids}


def bytes_of(system: System) -> dict[str, bytes]:
    return {name: system.store.get(name) for name in system.store.names()}


@pytest.mark.slow
@pytest.mark.usefixtures("recomputed_in_a_thread")
def test_a_restore_leaves_out_rows_deleted_after_the_copy(lmeraser: Run, disaster: Disaster, tmp_path: Path) -> None:
    store, copy, mirror = disaster
    mirrored = lmeraser("log", "mirror", "--store", store.store.uri, "--to", mirror, "--json").json
    head = lmeraser("log", "check", "--store", store.store.uri, "--json").json
    assert (mirrored["records"], mirrored["head"]) == (head["records"], head["head"])
    root = store.newest().root
    shutil.rmtree(store.store.uri)

    at, keys = ("--store", copy.store.uri), ("--keys", copy.keys)
    restored = lmeraser("restore", *at, *keys, "--mirror", mirror, "--json")
    assert restored.code == 0, restored.err
    assert (restored.json["erased"], restored.json["rows"], restored.json["rows_then"]) == (3, 20, 20)
    assert stored_ids(copy) == {row.sample_id for row in ALL} - {"s1", "s3", "s4", "s10"}
    ids = tmp_path / "ids.txt"
    ids.write_text("s1\ns3\ns4\nu10\n")
    assert lmeraser("residue", *at, *keys, "--ids-file", ids).code == 0

    finish(copy.coordinator())
    status = lmeraser("status", *at, "--json").json
    assert status["state_root"] == copy.fresh_root([row for row in ALL if row.sample_id in stored_ids(copy)]) == root
    assert status["deletions"] == {"completed": 4}
    checked = lmeraser("verify", *at, *keys, "--processes", 1, "--json").json
    assert (checked["equal"], checked["fresh_root"]) == (True, root)
    # The log continues that of the lost store, and so does its mirror.
    assert lmeraser("log", "show", *at, "--json").json["records"][head["records"] - 1]["digest"] == head["head"]
    again = lmeraser("log", "mirror", *at, "--to", mirror, "--json").json
    assert again["records"] == head["records"] + again["added"] > head["records"]

    deletions = [deletion["id"] for deletion in lmeraser("deletions", "list", *at, "--json").json["deletions"]]
    receipt, public = tmp_path / "receipt.json", copy.keys / "signing-key.pub.pem"
    receipt.write_text(lmeraser("receipt", "show", restored.json["deletions"][0], *at).out)
    for name in ("s3", "s4", "s10"):
        ask = ("receipt", "verify", receipt, "--public-key", public, "--hash-key", copy.keys / "hash.key")
        assert lmeraser(*ask, "--id", name).code == 0
    ids.write_text("s1\ns3\ns4\ns10\n")
    options = ("--requests", *deletions, "--ids-file", ids, "--shadows", 0, "--processes", 1, "--out", tmp_path / "out")
    audited = lmeraser("audit", *at, *keys, *options, "--json")
    assert {section["name"] for section in audited.json["sections"] if section["status"] != "passed"} == {"membership"}


@pytest.mark.slow
def test_a_following_mirror_copies_later_records_and_ends_when_interrupted(system_of: SystemOf, tmp_path: Path) -> None:
    system = system_of("minute", 24)
    mirror = LocalStore(tmp_path / "mirror")
    at = ("--store", system.store.uri, "--to", mirror.uri, "--follow")
    # A shell that starts the tests in the background has them ignore interrupts, and children inherit that.
    restore_interrupt = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-m", "cluster.cli", "log", "mirror", *at]
    with subprocess.Popen(command, preexec_fn=restore_interrupt) as following:
        try:
            until(lambda: mirror.names("log/") == system.store.names("log/") != [] or None, 60)
            records = len(mirror.names("log/"))
            system.delete("s1")
            until(lambda: mirror.names("log/") == system.store.names("log/") or None, 60)
            assert len(mirror.names("log/")) > records
            assert mirror.names("receipts/") == system.store.names("receipts/") != []
            assert following.poll() is None
        finally:
            following.send_signal(signal.SIGINT)
    assert following.returncode == 130


def test_a_log_that_does_not_continue_the_copys_is_refused_and_changes_nothing(
    lmeraser: Run, disaster: Disaster, tmp_path: Path
) -> None:
    store, copy, mirror = disaster
    restore = ("restore", "--store", copy.store.uri, "--keys", copy.keys, "--mirror")
    before = bytes_of(copy)
    lmeraser(*restore, tmp_path / "nowhere").failed(1, "not a mirror", "nowhere")
    # The mirror was made from the copy before the store's deletions: nothing newer is in it.
    lmeraser("log", "mirror", "--store", copy.store.uri, "--to", mirror)
    shown = lmeraser(*restore, mirror, "--json")
    assert (shown.code, shown.json["records"], shown.json["erased"]) == (0, 0, 0)
    assert bytes_of(copy) == before
    # Someone opened the copy without a restore: its history is another one now.
    lmeraser("log", "mirror", "--store", store.store.uri, "--to", mirror)
    copy.delete("s5")
    before = bytes_of(copy)
    lmeraser(*restore, mirror).failed(1, "the two logs")
    lmeraser("log", "mirror", "--store", copy.store.uri, "--to", mirror).failed(1, "the two logs")
    assert bytes_of(copy) == before


def test_an_older_mirror_of_the_same_log_is_refused(lmeraser: Run, disaster: Disaster) -> None:
    store, copy, mirror = disaster
    lmeraser("log", "mirror", "--store", copy.store.uri, "--to", mirror)
    before = bytes_of(store)
    lmeraser("restore", "--store", store.store.uri, "--keys", store.keys, "--mirror", mirror).failed(1, "older")
    assert bytes_of(store) == before


@pytest.mark.slow
def test_an_interrupted_restore_closes_the_store_to_every_command(
    lmeraser: Run, disaster: Disaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, copy, mirror = disaster
    base = copy.newest().number
    lmeraser("log", "mirror", "--store", store.store.uri, "--to", mirror)
    at = ("--store", copy.store.uri)
    keys = ("--keys", copy.keys)
    restore = ("restore", *at, *keys, "--mirror", mirror)
    with monkeypatch.context() as patch:
        # The disk is full once the newer log is in the copy.
        patch.setattr("actors.owner.Owner.write_rows", _full)
        lmeraser(*restore).failed(1, "No space left")
    for command in (("status",), ("log", "check"), ("deletions", "list"), ("clusters", "list"), ("verify", *keys)):
        lmeraser(*command, *at).failed(1, "not fully restored", "lmeraser restore")
    restored = lmeraser(*restore, "--json")
    assert (restored.code, restored.json["erased"], stored_ids(copy) & {"s3", "s4", "s10"}) == (0, 3, set())
    receipt = lmeraser("receipt", "show", restored.json["deletions"][0], *at).json
    assert receipt["before"]["log"] == base


def _full(*_: object) -> None:
    raise StoreError("[Errno 28] No space left on device")
