"""The scan for what is left of erased rows: it finds what is there, passes over what may be, and fails closed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_system import System, samples

from lmeraser.residue import Finding, Residue, scan

SystemOf = Callable[..., System]
all_media = pytest.mark.parametrize(
    "medium", ["folder", *(pytest.param(bucket, marks=pytest.mark.slow) for bucket in ("s3", "s3 versioned"))]
)


@pytest.fixture
def system(system_of: SystemOf) -> System:
    """Rows of named persons, of whom one was erased."""
    system = system_of("minute", 0)
    rows = [
        replace(row, sample_id=f"photo-{place}", subject_id=f"ann{place}") for place, row in enumerate(samples(0, 24))
    ]
    system.ingest(rows)
    system.delete("photo-1")
    return system


def scanned(
    system: System,
    *ids: str,
    images: tuple[bytes, ...] = (),
    folder: Path | None = None,
    tables: tuple[tuple[str, bytes], ...] = (),
) -> Residue:
    return scan(system.store, system.hash_key, [] if folder is None else [folder], ids, images, tables)


@all_media
def test_after_a_deletion_nothing_is_left(system: System) -> None:
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
    assert {"holds 1 of the ids", "holds id 1", "holds image 1", "holds features of image 1"} <= whats


def test_an_id_that_is_a_part_of_a_remaining_id_is_no_finding(system: System) -> None:
    assert b"photo-10" in b"".join(system.store.get(name) for name in system.store.names("rows/"))
    assert scanned(system, "photo-1").clean


@pytest.mark.parametrize("text", ["photo-1", '{"id":"photo-1"}', "deleted photo-1.", "photo-100", "xphoto-1"])
def test_an_id_in_a_log_of_another_folder_is_found(system: System, tmp_path: Path, text: str) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "worker.out").write_text(text)
    (finding,) = scanned(system, "photo-1", folder=logs).findings
    assert finding.file.endswith("worker.out")


def test_a_short_id_counts_only_as_a_word_of_its_own(system: System, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "one").write_text("xab1y")
    assert scanned(system, "ab1", folder=logs).findings == ()
    (logs / "two").write_text("user ab1 asked")
    assert scanned(system, "ab1", folder=logs).findings == (Finding(str(logs / "two"), "holds id 1"),)


def test_an_id_across_two_chunks_is_found(system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmeraser.residue.files.PIECE", 1000)
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "spilled").write_bytes(b"." * 995 + b"photo-1" + b"." * 2000)
    assert not scanned(system, "photo-1", folder=logs).clean


@all_media
def test_an_object_that_no_commit_names_is_found(system: System) -> None:
    system.store.put("rows/old/left.parquet", b"anything")
    (finding,) = scanned(system, "photo-1").findings
    assert finding.file == "rows/old/left.parquet"


@all_media
def test_a_request_that_waits_is_found(system: System) -> None:
    system.registrar().delete(["photo-2"], [])
    found = scanned(system, "photo-1")
    assert [finding.file.partition("/")[0] for finding in found.findings] == ["requests"]


def test_an_unfinished_write_is_found(system: System) -> None:
    partial = Path(system.store.uri) / ".partial" / "rows%2Fa%2Fb.parquet~1"
    partial.parent.mkdir(exist_ok=True)
    partial.write_bytes(samples(1, 2)[0].image)
    assert not scanned(system, "photo-1", images=(samples(1, 2)[0].image,)).clean


def test_what_cannot_be_read_is_a_finding(system: System) -> None:
    entry = system.newest().clusters[0]
    path = Path(system.store.uri) / entry.rows_object
    path.write_bytes(path.read_bytes()[:-9])
    found = scanned(system, "nobody")
    assert [finding.file for finding in found.findings] == [entry.rows_object]
    assert "cannot be read" in found.findings[0].what
