"""The scan for what is left of erased rows: it finds what is there, passes over what may be, and fails closed."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_system import System, finish, samples

from lmeraser.deletion import DeletionRequest
from lmeraser.errors import KeysError, StoreFormatError
from lmeraser.hashing import HashKey
from lmeraser.proof.residue import Finding, Residue, scan
from lmeraser.state.rows import RowTable
from lmeraser.store import LocalStore

FIRST = "the id in place 1 of the list"
SystemOf = Callable[..., System]
all_media = pytest.mark.parametrize(
    "medium", ["folder", *(pytest.param(bucket, marks=pytest.mark.slow) for bucket in ("s3", "s3 versioned"))]
)


@pytest.fixture
def system(system_of: SystemOf, medium: str) -> System:
    """Rows of named persons, of whom one was erased."""
    if medium == "folder":
        return system_of("minute", 0, erase_one_of_24)
    # A bucket may keep versions of what was there.
    system = system_of("minute", 0)
    erase_one_of_24(system)
    return system


def erase_one_of_24(system: System) -> None:
    rows = [
        replace(row, sample_id=f"photo-{place}", subject_id=f"ann{place}") for place, row in enumerate(samples(0, 24))
    ]
    system.ingest(rows)
    system.delete("photo-1")


def scanned(
    system: System,
    *ids: str,
    images: tuple[bytes, ...] = (),
    folder: Path | None = None,
    tables: tuple[tuple[str, bytes], ...] = (),
) -> Residue:
    return scan(system.store, system.hash_key, [] if folder is None else [folder], ids, images, tables)


def test_a_missing_store_is_reported(system: System, tmp_path: Path) -> None:
    with pytest.raises(StoreFormatError, match="nowhere is not a store"):
        scan(LocalStore(tmp_path / "nowhere"), system.hash_key, [], ["photo-1"])


@all_media
def test_after_a_deletion_nothing_remains(system: System) -> None:
    image = samples(1, 2)[0].image
    found = scanned(system, "photo-1", images=(image,))
    assert (found.clean, found.findings) == (True, ())
    assert (found.ids, found.images) == (1, 1)
    assert found.files >= len(system.store.names())


@all_media
def test_a_row_that_is_still_there_is_found_by_id_and_by_image_and_by_its_features(system: System) -> None:
    image = samples(2, 3)[0].image
    found = scanned(system, "photo-2", images=(image,))
    whats = {finding.what for finding in found.findings}
    assert not found.clean
    assert {
        "holds 1 of the ids",
        f"holds {FIRST}",
        "holds image 1",
        "holds features of image 1",
    } <= whats


def test_an_id_that_is_a_part_of_a_remaining_id_is_not_a_finding(system: System) -> None:
    assert b"photo-10" in b"".join(system.store.get(name) for name in system.store.names("rows/"))
    assert scanned(system, "photo-1").clean


@pytest.mark.parametrize("text", ["photo-1", '{"id":"photo-1"}', "deleted photo-1.", "photo-100", "xphoto-1"])
def test_an_id_in_a_log_of_another_folder_is_found(system: System, tmp_path: Path, text: str) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "worker.out").write_text(text)
    (finding,) = scanned(system, "photo-1", folder=logs).findings
    assert finding.file.endswith("worker.out")


def test_a_short_id_counts_only_as_a_separate_word(system: System, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "one").write_text("xab1y")
    assert scanned(system, "ab1", folder=logs).findings == ()
    (logs / "two").write_text("user ab1 asked")
    assert scanned(system, "ab1", folder=logs).findings == (Finding(str(logs / "two"), f"holds {FIRST}"),)


def test_an_id_across_two_chunks_is_found(system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmeraser.proof.residue.files.PIECE", 1000)
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "spilled").write_bytes(b"." * 995 + b"photo-1" + b"." * 2000)
    assert not scanned(system, "photo-1", folder=logs).clean


@all_media
def test_objects_that_no_commit_names_are_found(system: System) -> None:
    names = ["heads/left", "prompted/old/left", "prompts/old/left", "removed/old/left", "rows/old/left.ids"]
    for name in names:
        system.store.put(name, b"anything")
    assert sorted(finding.file for finding in scanned(system, "photo-1").findings) == names


def test_an_unfinished_write_is_found(system: System) -> None:
    partial = Path(system.store.uri) / ".partial" / "rows%2Fa%2Fb.parquet~1"
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(samples(1, 2)[0].image)
    assert not scanned(system, "photo-1", images=(samples(1, 2)[0].image,)).clean


def test_what_cannot_be_read_is_a_finding(system: System) -> None:
    entry = system.newest().clusters[0]
    rows_object = entry.segments[0].rows_object
    path = Path(system.store.uri) / rows_object
    path.write_bytes(path.read_bytes()[:-9])
    found = scanned(system, "nobody")
    assert [finding.file for finding in found.findings] == [rows_object]
    assert "cannot be read" in found.findings[0].what


def test_an_id_that_the_store_never_knew_is_not_clean(system: System) -> None:
    found = scanned(system, "photo-1", "photo-77", "PHOTO-2 ")
    assert (found.clean, found.findings, found.never_known, found.misspelt) == (False, (), (2, 3), (3,))
    assert scanned(system, "photo-1").clean


def test_a_subject_that_was_to_be_deleted_is_known(system: System) -> None:
    coordinator = system.coordinator()
    coordinator.delete(DeletionRequest(subject_ids=("ann5",)))
    finish(coordinator)
    assert scanned(system, "ann5", "photo-1").clean


def test_an_id_of_digits_counts_in_row_files_and_is_doubtful_elsewhere(system_of: SystemOf, tmp_path: Path) -> None:
    system = system_of("minute", 0)
    system.ingest([replace(row, sample_id=str(place), subject_id="9") for place, row in enumerate(samples(0, 24))])
    system.delete("7")
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "raylet.out").write_text("worker 7 of 8 started")
    found = scanned(system, "7", folder=logs)
    assert found.clean
    assert found.doubtful == (Finding(str(logs / "raylet.out"), f"may hold {FIRST}"),)
    assert {finding.what for finding in scanned(system, "8").findings} == {"holds 1 of the ids"}
    # An older version, or a write that was not finished, is a row file too.
    kept = system.store.get(system.newest().clusters[0].segments[0].rows_object)
    partial = Path(system.store.uri) / ".partial" / "rows%2Fa%2Fb.parquet~1"
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(kept)
    held = RowTable.from_parquet(kept, "kept").sample_ids[0]
    assert str(partial) in {finding.file for finding in scanned(system, held).findings}


def test_a_table_that_is_not_a_file_is_searched(system: System) -> None:
    tables = (("job 01", b"lmeraser delete --sample-id photo-1"), ("job 02", b"lmeraser status"))
    assert scanned(system, "photo-1", tables=tables).findings == (Finding("job 01", f"holds {FIRST}"),)


def test_names_of_files_and_targets_of_links_are_findings(system: System, tmp_path: Path) -> None:
    logs, elsewhere = tmp_path / "logs", tmp_path / "elsewhere"
    (logs / "photo-1").mkdir(parents=True)
    (logs / "photo-1" / "inner.txt").write_text("nothing")
    elsewhere.mkdir()
    (elsewhere / "old.log").write_text("asked for photo-1")
    (logs / "link").symlink_to(elsewhere)
    assert set(scanned(system, "photo-1", folder=logs).findings) == {
        Finding(str(logs / "photo-1"), f"is called or points to {FIRST}"),
        Finding(str(logs / "link" / "old.log"), f"holds {FIRST}"),
    }


def test_rows_that_were_moved_and_linked_are_read(system: System, tmp_path: Path) -> None:
    rows = Path(system.store.uri) / "rows"
    rows.rename(tmp_path / "moved")
    rows.symlink_to(tmp_path / "moved")
    assert {finding.what for finding in scanned(system, "photo-2").findings} == {
        "holds 1 of the ids",
        f"holds {FIRST}",
    }
    moved = scanned(system, "photo-2").findings
    assert {Path(finding.file).is_absolute() for finding in moved} == {True, False}


def test_a_file_with_another_compression_is_counted(system: System, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "old.bz2").write_bytes(bz2.compress(b"photo-1"))
    (logs / "old.gz").write_bytes(gzip.compress(b"photo-1"))
    found = scanned(system, "photo-1", folder=logs)
    assert found.not_unpacked == {"bzip2": 1}
    assert found.findings == (Finding(str(logs / "old.gz"), f"holds {FIRST}"),)


def test_another_hash_key_is_refused(system: System) -> None:
    with pytest.raises(KeysError, match="not the one"):
        scan(system.store, HashKey(bytes(32)), [], ["photo-1"])
