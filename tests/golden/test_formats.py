"""What earlier versions wrote can be opened, verified and upgraded: a store, its log, receipts, a mirror and a backup.

``formats/<number>.tar.gz`` holds what the version with that store format wrote. A file that is there is never written
again: a new format adds one (``LMERASER_WRITE_GOLDEN=1 .venv/bin/pytest tests/golden/test_formats.py``).
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rebuilding import Rebuild, fresh_root
from small_system import System, finish, samples

from actors.restoring import restore
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import StoreFormatError
from lmeraser.proof.mirror import LogMirror
from lmeraser.proof.receipts import covers, verify_receipt
from lmeraser.state.keys import load_signing_key
from lmeraser.state.layout import MANIFEST
from lmeraser.state.log import Log
from lmeraser.state.manifest import FORMAT, OLDER_FORMATS, load_manifest
from lmeraser.store import LocalStore

FOLDER = Path(__file__).parent / "formats"
WRITE = "LMERASER_WRITE_GOLDEN"
ROWS = samples(0, 24)
FORMATS = sorted(int(file.name.partition(".")[0]) for file in FOLDER.glob("*.tar.gz"))


def write(system: System, folder: Path) -> None:
    """A store with a completed deletion, a backup from before a second one, and a mirror from after it."""
    system.delete("s3")
    shutil.copytree(system.store.uri, folder / "backup")
    coordinator = system.coordinator()
    second = DeletionRequest(("s5",), ("u8",))
    preview = coordinator.previews.preview(second)
    coordinator.approvals.require(True)
    waiting = coordinator.delete(replace(second, preview=preview.token, by="clerk"))
    coordinator.approvals.approve(waiting.id, "officer")
    finish(coordinator)
    mirror = LogMirror(system.store, LocalStore(folder / "mirror"))
    mirror.copy()
    shutil.copytree(system.store.uri, folder / "store")
    shutil.copytree(system.keys, folder / "keys")
    with tarfile.open(FOLDER / f"{FORMAT}.tar.gz", "w:gz") as archive:
        for part in ("store", "backup", "mirror", "keys"):
            archive.add(folder / part, part, filter=anonymous)


def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[int], Path]:
    def extract(number: int) -> Path:
        with tarfile.open(fileobj=io.BytesIO((FOLDER / f"{number}.tar.gz").read_bytes())) as archive:
            archive.extractall(tmp_path, filter="tar")
        return tmp_path

    return extract


def test_the_present_format_has_a_file(system_of: Callable[..., System], tmp_path: Path) -> None:
    if os.environ.get(WRITE) and FORMAT not in FORMATS:
        FOLDER.mkdir(exist_ok=True)
        write(system_of("minute", 24), tmp_path)
    assert (FOLDER / f"{FORMAT}.tar.gz").exists()


@pytest.mark.parametrize("number", FORMATS)
def test_a_store_of_every_format_can_be_used(number: int, opened: Callable[[int], Path], tmp_path: Path) -> None:
    folder = opened(number)
    system = System(LocalStore(folder / "store"), folder / "keys")
    assert Log(system.store).advance()
    coordinator = system.coordinator()
    coordinator.hold_tunings("it may have been made on another machine")
    deletions = coordinator.recent_deletions()
    assert [deletion.status for deletion in deletions] == ["completed", "completed"]
    assert deletions[1].as_previewed is (None if number == 10 else True)
    assert json.loads(system.store.get(MANIFEST))["format"] == FORMAT
    public_key = load_signing_key(system.keys).public_key()
    for deletion, name in zip(deletions, ("s3", "s5"), strict=True):
        receipt = coordinator.receipt(deletion.id)
        verify_receipt(receipt, public_key)
        assert covers(receipt, system.hash_key, name)
    # Erasing needs no fingerprint.
    erased = coordinator.delete(DeletionRequest(("s9",)))
    assert erased.status == ("accepted" if number == 10 else "requested")
    if erased.status == "requested":
        coordinator.approvals.approve(erased.id, "officer")
    while coordinator.deletion(erased.id).status == "accepted":
        coordinator.step()
    left = [row for row in ROWS if row.sample_id not in ("s3", "s5", "s8", "s9")]
    rebuild = Rebuild(system, system.manifest.config)
    rebuild.begin(coordinator)
    finish(rebuild.finish(coordinator))
    assert system.newest().root == fresh_root(system, system.manifest.config, left, tmp_path / "fresh")


@pytest.mark.parametrize("number", FORMATS)
def test_a_backup_of_every_format_can_be_restored(number: int, opened: Callable[[int], Path]) -> None:
    folder = opened(number)
    backup = System(LocalStore(folder / "backup"), folder / "keys")
    result = restore(backup.store, LocalStore(folder / "mirror"), backup.hash_key, load_signing_key(backup.keys))
    assert (result.erased, result.rows) == (2, 21)


@pytest.mark.parametrize("number", [FORMAT + 1, "eleven", True, None])
def test_a_newer_format_is_refused_by_name(number: object, system_of: Callable[..., System]) -> None:
    store = system_of("minute", 24).store
    manifest = {**json.loads(store.get(MANIFEST)), "format": number}
    store.put(MANIFEST, json.dumps(manifest).encode())
    with pytest.raises(
        StoreFormatError, match=f"format {number!r}; this version reads formats {OLDER_FORMATS[0]} to {FORMAT}"
    ):
        load_manifest(store)
