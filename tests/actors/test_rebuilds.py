"""Rebuilding a store under another configuration, against a fresh store of that configuration."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rebuilding import CHANGES, Rebuild, fresh_root
from small_system import System, finish, samples

from actors.coordinator import Coordinator
from actors.refill import draft_samples, live_batches, put_missing
from actors.restoring import restore
from lmeraser.config import StateConfig
from lmeraser.data import Sample
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import ConfigError, DataError, RequestError
from lmeraser.proof.mirror import LogMirror
from lmeraser.proof.receipts import verify_receipt
from lmeraser.proof.verify import verify
from lmeraser.state.keys import load_signing_key, parse_public_pem
from lmeraser.state.layout import GENERATIONS
from lmeraser.state.log import Log
from lmeraser.state.manifest import draft_of
from lmeraser.state.record_bodies import RequestBody
from lmeraser.state.rows import RowTable
from lmeraser.store import LocalStore

ROWS = samples(0, 60)
SystemOf = Callable[..., System]


def relabelled(rows: list[Sample], before: StateConfig, after: StateConfig) -> list[Sample]:
    return [replace(row, label=after.labels.index(before.labels[row.label])) for row in rows]


def empty_folders(system: System) -> list[Path]:
    folders = [path for path in Path(system.store.uri).rglob("*") if path.is_dir() and path.name != ".partial"]
    return [folder for folder in folders if not any(folder.iterdir())]


def without(*sample_ids: str) -> list[Sample]:
    return [row for row in ROWS if row.sample_id not in sample_ids]


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_the_state_after_a_rebuild_is_that_of_a_fresh_store(change: str, system_of: SystemOf, tmp_path: Path) -> None:
    system = system_of("minute", 60)
    before = system.manifest
    config = CHANGES[change](before.config)
    coordinator = system.coordinator()
    rebuild = Rebuild(system, config)
    rebuild.begin(coordinator)
    finish(rebuild.finish(coordinator))
    newest, manifest = system.newest(), system.manifest
    rows = relabelled(ROWS, before.config, config)
    assert newest.root == fresh_root(system, config, rows, tmp_path / "fresh")
    assert manifest.config == config
    assert (manifest.store_id, manifest.lease_s) == (before.store_id, before.lease_s)
    # Nothing of the old generation is left.
    kept = {name for name in system.store.names() if not name.startswith(("log/", "checkpoints/", "receipts/"))}
    named = newest.objects() | set(manifest.public.values())
    assert kept == named | {"store.json", "public/signing-key.pem", f"{manifest.folder}store.json"}
    assert empty_folders(system) == []


@pytest.mark.slow
def test_a_rebuilt_store_is_verified_and_rebuilt_again(system_of: SystemOf, tmp_path: Path) -> None:
    system = system_of("minute", 60)
    first = system.manifest.config
    for change in ("a label", "the coreset"):
        coordinator = system.coordinator()
        rebuild = Rebuild(system, CHANGES[change](system.manifest.config))
        rebuild.begin(coordinator)
        finish(rebuild.finish(coordinator))
        system.delete("s7")
    config = system.manifest.config
    assert config == CHANGES["the coreset"](CHANGES["a label"](first))
    assert verify(system.store, system.hash_key, processes=1).equal
    assert system.newest().root == fresh_root(system, config, without("s7"), tmp_path / "fresh")
    assert [name for name in system.store.names(GENERATIONS) if not name.startswith(system.manifest.folder)] == []


def test_deletions_and_additions_reach_both_generations(system_of: SystemOf, tmp_path: Path) -> None:
    system = system_of("minute", 60)
    config = CHANGES["more anchors"](system.manifest.config)
    coordinator = system.coordinator()
    rebuild = Rebuild(system, config)
    rebuild.begin(coordinator)
    early = coordinator.delete(DeletionRequest(("s3",)))
    coordinator.step()
    rebuild.fill(coordinator)
    late = coordinator.delete(DeletionRequest(("s4",), ("u9", "nobody")))
    while coordinator.deletion(late.id).status == "accepted":
        coordinator.step()
    # It counts as erased, so no object of either generation holds its rows.
    tables = [name for name in system.store.names() if name.endswith(".parquet")]
    assert any(name.startswith(GENERATIONS) for name in tables)
    assert all({"s4", "s9"}.isdisjoint(sample_ids(system, name)) for name in tables)
    coordinator = rebuild.finish(coordinator)
    finish(coordinator)
    assert {coordinator.deletion(each.id).status for each in (early, late)} == {"completed"}
    assert system.newest().root == fresh_root(system, config, without("s3", "s4", "s9"), tmp_path / "fresh")
    public_key = parse_public_pem(system.store.get("public/signing-key.pem"))
    for deletion in (early, late):
        verify_receipt(coordinator.receipt(deletion.id), public_key)


def test_a_deletion_that_is_carried_out_in_parts_reaches_the_draft_once(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = system_of("minute", 60)
    coordinator = system.coordinator()
    rebuild = Rebuild(system, CHANGES["a label"](system.manifest.config))
    rebuild.begin(coordinator)
    rebuild.fill(coordinator)
    monkeypatch.setattr("actors.eraser.MAX_SEGMENTS", 1)
    rows = [row.sample_id for row in ROWS[:40]]
    deletion = coordinator.delete(DeletionRequest(tuple(rows)))
    before = system.newest().number
    while coordinator.deletion(deletion.id).status == "accepted":
        coordinator.step()
    commits = [each for each in Log(system.store).advance() if each.kind == "commit" and each.number > before]
    assert len(commits) > 1
    requests = [each for each in Log(draft_of(system.store, rebuild.generation)).advance() if each.kind == "request"]
    assert [len(each.samples) for record in requests for each in RequestBody.all_from(record)] == [len(rows)]


def sample_ids(system: System, name: str) -> tuple[str, ...]:
    return RowTable.from_parquet(system.store.get(name), name).sample_ids


def test_rows_that_were_read_before_their_erasure_do_not_come_back(system_of: SystemOf, tmp_path: Path) -> None:
    system = system_of("minute", 60)
    config = CHANGES["more anchors"](system.manifest.config)
    coordinator = system.coordinator()
    rebuild = Rebuild(system, config)
    rebuild.begin(coordinator)
    coordinator.step()
    prefix = coordinator.rebuilds.begin_fill()
    (batch,) = live_batches(system.store)
    have_M = draft_samples(system.store, system.hash_key, rebuild.generation)
    put_missing(system.store, system.hash_key, rebuild.generation, rebuild.rows(), have_M, prefix, batch)
    deletion = coordinator.delete(DeletionRequest(("s5",)))
    while coordinator.deletion(deletion.id).status == "accepted":
        coordinator.step()
    with pytest.raises(RequestError, match="erased in between"):
        coordinator.rebuilds.fill(prefix)
    finish(rebuild.finish(coordinator))
    assert system.newest().root == fresh_root(system, config, without("s5"), tmp_path / "fresh")


def test_an_abandoned_rebuild_leaves_nothing(system_of: SystemOf, tmp_path: Path) -> None:
    system = system_of("minute", 60)
    coordinator = system.coordinator()
    rebuild = Rebuild(system, CHANGES["the seed"](system.manifest.config))
    rebuild.begin(coordinator)
    coordinator.step()
    rebuild.fill(coordinator)
    with pytest.raises(RequestError, match=rebuild.generation):
        coordinator.rebuilds.begin()
    coordinator.rebuilds.abandon()
    # Rows that the draft still held do not count as erased before it is gone.
    deletion = coordinator.delete(DeletionRequest(("s2",)))
    while coordinator.deletion(deletion.id).status == "accepted":
        coordinator.step()
    assert not (Path(system.store.uri) / GENERATIONS).exists()
    finish(coordinator)
    assert system.newest().root == fresh_root(system, system.manifest.config, without("s2"), tmp_path / "fresh")
    assert coordinator.rebuilds.status() is None
    with pytest.raises(RequestError, match="no rebuild"):
        coordinator.rebuilds.abandon()


def test_labels_are_merged_and_only_unused_ones_removed(system_of: SystemOf, tmp_path: Path) -> None:
    system = system_of("minute", 60)
    before = system.manifest.config
    assert before.labels == ("red", "green", "blue")
    config = replace(before, labels=("warm", "cold"))
    coordinator = system.coordinator()
    rebuild = Rebuild(system, config, {"red": "warm", "green": "cold", "blue": "cold"})
    rebuild.begin(coordinator)
    finish(rebuild.finish(coordinator))
    rows = [replace(row, label=min(row.label, 1)) for row in ROWS]
    assert system.newest().root == fresh_root(system, config, rows, tmp_path / "fresh")
    coordinator = system.coordinator()
    rebuild = Rebuild(system, replace(config, labels=("warm", "hot")))
    rebuild.begin(coordinator)
    coordinator.step()
    with pytest.raises(DataError, match="'cold'"):
        rebuild.fill(coordinator)
    for renamed, message in (({"blue": "hot"}, "'blue'"), ({"cold": "blue"}, "'blue'")):
        with pytest.raises(ConfigError, match=message):
            replace(rebuild, renamed=renamed).rows()


@pytest.mark.slow
def test_a_draft_that_fails_does_not_stop_the_live_generation(system_of: SystemOf) -> None:
    system = system_of("minute", 60)
    coordinator: Coordinator = system.coordinator()
    rebuild = Rebuild(system, CHANGES["the seed"](system.manifest.config))
    rebuild.begin(coordinator)
    coordinator.step()
    rebuild.fill(coordinator)
    draft = system.store.below(f"{GENERATIONS}{rebuild.generation}/")
    rows = [name for name in draft.names("rows/") if name.endswith(".parquet")]
    for name in rows:
        draft.put(name, b"damaged")
    deletion = coordinator.delete(DeletionRequest(("s1",)))
    # It is tried again after a second, and must not count as erased because the draft cannot be opened.
    ended_s = time.monotonic() + 4
    while time.monotonic() < ended_s:
        coordinator.step()
    # The reason is told, and the operator's way out works.
    assert coordinator.deletion(deletion.id).status == "accepted"
    assert rebuild.generation in str(coordinator.status().held_up[deletion.id])
    status = coordinator.rebuilds.status()
    assert status is not None and "does not have the digest" in status.problem
    coordinator.rebuilds.abandon()
    coordinator = system.coordinator()
    finish(coordinator)
    assert coordinator.deletion(deletion.id).status == "completed"


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before the rebuild", "during the rebuild"])
def test_a_copy_of_the_old_generation_is_restored_with_the_log_of_the_new_one(
    when: str, system_of: SystemOf, tmp_path: Path
) -> None:
    system = system_of("minute", 60)
    before = system.manifest
    coordinator = system.coordinator()
    rebuild = Rebuild(system, CHANGES["more anchors"](before.config))
    if when == "during the rebuild":
        rebuild.begin(coordinator)
        rebuild.fill(coordinator)
    copy = replace(system, store=LocalStore(tmp_path / "copy"))
    shutil.copytree(system.store.uri, copy.store.uri)
    rebuild.begin(coordinator)
    coordinator.delete(DeletionRequest(("s3",)))
    coordinator = rebuild.finish(coordinator)
    coordinator.delete(DeletionRequest(("s4",)))
    finish(coordinator)
    mirror = LocalStore(tmp_path / "mirror")
    LogMirror(system.store, mirror).copy()
    result = restore(copy.store, mirror, copy.hash_key, load_signing_key(copy.keys))
    assert result.erased == 2
    finish(copy.coordinator())
    assert copy.manifest == before
    assert copy.newest().root == fresh_root(copy, before.config, without("s3", "s4"), tmp_path / "fresh")
    assert copy.store.names(GENERATIONS) == []
