"""Ingests that break off, or run into a deletion or a new coordinator."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_system import System, finish, picture, samples

from actors import prefixes
from actors.incoming import put_rows, put_sums
from actors.ingests import IngestOutcome
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import DuplicateSampleError, ObjectCorruptError, ObjectMissingError, RequestError, StoreError
from lmeraser.state.rows import RowTable
from lmeraser.store import Fence, LocalStore

SystemOf = Callable[..., System]
both = pytest.mark.parametrize("medium", ["folder", pytest.param("s3", marks=pytest.mark.slow)])


class NoPurge(LocalStore):
    """A store that takes objects, and for a while lets none go."""

    refuses = False

    def purge_below(self, prefix: str, keep: Callable[[str], bool], fence: Fence) -> None:
        if self.refuses:
            raise StoreError(f"cannot purge {prefix}")
        super().purge_below(prefix, keep, fence)


def put(system: System, prefix: str, start: int, stop: int, number: int = 0) -> None:
    put_rows(
        system.store,
        system.hash_key,
        f"{prefix}{number}",
        system.pipeline().rows(samples(start, stop)),
        seed=0,
    )


def holders(system: System, number: int) -> list[str]:
    return [name for name in system.store.names() if picture(number) in system.store.get(name)]


@both
def test_an_ingest_that_is_unknown_to_a_new_coordinator_is_refused_completely(system_of: SystemOf) -> None:
    system = system_of()
    prefix = system.coordinator().begin_ingest()
    put(system, prefix, 200, 210, number=0)
    successor = system.coordinator()
    put(system, prefix, 210, 220, number=1)
    with pytest.raises(RequestError, match="start it again"):
        successor.prefixes.renew(prefix)
    with pytest.raises(RequestError, match="start it again"):
        successor.ingest(prefix)
    assert system.newest().rows == 90


@both
def test_an_abandoned_ingest_leaves_nothing(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    prefix = coordinator.begin_ingest()
    put(system, prefix, 200, 210)
    coordinator.prefixes.drop(prefix)
    finish(coordinator)
    assert system.store.names("incoming/") == []


@both
def test_an_ingest_that_does_not_renew_its_prefix_is_dropped(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = system_of()
    coordinator = system.coordinator()
    silent, renewed = coordinator.begin_ingest(), coordinator.begin_ingest()
    for prefix, start in ((silent, 200), (renewed, 210)):
        put(system, prefix, start, start + 10)
    now = time.monotonic() + prefixes.EXPIRY_S
    monkeypatch.setattr(time, "monotonic", lambda: now)
    coordinator.prefixes.renew(renewed)
    now += 1.0
    finish(coordinator)
    assert system.store.names("incoming/") == [f"{renewed}0.ids", f"{renewed}0.parquet"]
    with pytest.raises(RequestError, match="start it again"):
        coordinator.ingest(silent)
    done = coordinator.ingest(renewed)
    finish(coordinator)
    assert (done.result(timeout=0).added, system.newest().rows) == (10, 100)


@both
def test_a_deletion_drops_an_ingest_that_holds_its_rows_and_no_other(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    holding, other = coordinator.begin_ingest(), coordinator.begin_ingest()
    put(system, holding, 3, 5)
    put(system, other, 200, 210)
    coordinator.delete(DeletionRequest(("s3",)))
    finish(coordinator)
    assert holders(system, 3) == []
    assert system.store.names("incoming/") == [f"{other}0.ids", f"{other}0.parquet"]
    with pytest.raises(RequestError, match="erased in between"):
        coordinator.ingest(holding, force=True)


@both
@pytest.mark.parametrize("force", [False, True])
def test_a_row_that_is_written_after_its_deletion_is_left_out_even_with_force(system_of: SystemOf, force: bool) -> None:
    system = system_of()
    coordinator = system.coordinator()
    prefix = coordinator.begin_ingest()
    coordinator.delete(DeletionRequest(("s3",)))
    finish(coordinator)
    put(system, prefix, 3, 4, number=1)
    put(system, prefix, 200, 210, number=2)
    done = coordinator.ingest(prefix, force=force)
    finish(coordinator)
    assert done.result(timeout=0) == IngestOutcome(10, 0, 1)
    assert holders(system, 3) == []
    remaining = [row for row in (*samples(0, 90), *samples(200, 210)) if row.sample_id != "s3"]
    assert system.newest().root == system.fresh_root(remaining)


@both
def test_a_waiting_ingest_with_an_erased_row_is_dropped(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    prefix = coordinator.begin_ingest()
    put(system, prefix, 200, 210)
    done = coordinator.ingest(prefix)
    coordinator.delete(DeletionRequest(subject_ids=("u205",)))
    finish(coordinator)
    with pytest.raises(RequestError, match="erased in between"):
        done.result(timeout=0)
    assert (holders(system, 205), system.newest().rows) == ([], 90)


def test_a_row_object_without_its_companion_is_refused(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    prefix = coordinator.begin_ingest()
    system.store.put(f"{prefix}0.parquet", system.pipeline().rows(samples(200, 210)).to_parquet())
    done = coordinator.ingest(prefix)
    finish(coordinator)
    with pytest.raises(ObjectMissingError, match="companion"):
        done.result(timeout=0)


@both
def test_an_ingest_that_began_after_the_deletion_may_add_the_row_again_with_force(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    coordinator.delete(DeletionRequest(("s3",)))
    finish(coordinator)
    prefix = coordinator.begin_ingest()
    put(system, prefix, 3, 4)
    coordinator.ingest(prefix, force=True)
    finish(coordinator)
    assert system.newest().root == system.fresh_root(samples(0, 90))


@both
def test_rows_that_the_store_holds_equal_in_every_byte_are_not_added_again(system_of: SystemOf) -> None:
    system = system_of()
    before = system.newest()
    coordinator = system.coordinator()
    prefix = coordinator.begin_ingest()
    put(system, prefix, 20, 30, number=0)
    put(system, prefix, 3, 7, number=1)
    done = coordinator.ingest(prefix)
    finish(coordinator)
    assert (done.result(timeout=0), system.newest()) == (IngestOutcome(0, 14, 0), before)
    assert system.store.names("incoming/") == []


@pytest.mark.parametrize(
    "changed", [{"label": 0}, {"subject_id": "another"}, {"image": picture(8)}], ids=lambda changed: next(iter(changed))
)
def test_rows_that_the_store_holds_with_other_content_are_refused(system_of: SystemOf, changed: dict[str, Any]) -> None:
    system = system_of()
    coordinator = system.coordinator()
    prefix = coordinator.begin_ingest()
    rows = [*samples(3, 7), replace(samples(7, 8)[0], **changed), samples(8, 9)[0]]
    put_rows(system.store, system.hash_key, f"{prefix}0", system.pipeline().rows(rows), seed=0)
    done = coordinator.ingest(prefix)
    finish(coordinator)
    assert isinstance(done.exception(timeout=0), DuplicateSampleError)
    assert system.newest().rows == 90


def test_a_row_that_is_in_two_objects_is_added_once(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    prefix = coordinator.begin_ingest()
    for number, (start, stop) in enumerate(((88, 94), (92, 96), (90, 93))):
        put(system, prefix, start, stop, number)
    future = coordinator.ingest(prefix)
    finish(coordinator)
    assert future.result() == IngestOutcome(added=6, present=7, erased=0)
    assert system.newest().root == system.fresh_root(samples(0, 96))


def test_an_id_that_comes_with_two_contents_is_refused(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    prefix = coordinator.begin_ingest()
    put(system, prefix, 90, 92)
    other = replace(samples(91, 92)[0], image=picture(5))
    put_rows(system.store, system.hash_key, f"{prefix}1", system.pipeline().rows([other]), seed=0)
    future = coordinator.ingest(prefix)
    finish(coordinator)
    with pytest.raises(DuplicateSampleError, match="'s91' occurs more than once, with another image"):
        future.result()
    assert system.newest().rows == 90


def test_the_sums_of_a_run_count_only_rows_that_are_added(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    deletion = coordinator.delete(DeletionRequest(("s3", "s95")))
    finish(coordinator)
    assert coordinator.deletion(deletion.id).status == "completed"
    prefix = coordinator.begin_ingest()
    # Of this run, rows are present, erased and repeated; of the next one, all are added.
    for run, parts in (("a", ((86, 93), (92, 98))), ("b", ((98, 103), (103, 110)))):
        tables = [system.pipeline().rows(samples(*part)) for part in parts]
        together = [*samples(parts[0][0], parts[0][1]), *samples(*parts[1])]
        rows = RowTable.concatenate([system.pipeline().rows([row]) for row in together], 0)
        put_sums(system.store, f"{prefix}{run}", rows, len(system.manifest.config.labels))
        for number, table in enumerate(tables):
            put_rows(system.store, system.hash_key, f"{prefix}{run}-{number}", table, seed=0)
    future = coordinator.ingest(prefix)
    finish(coordinator)
    # Present: 86 to 89; repeated: 92; erased: 95.
    assert future.result() == IngestOutcome(added=19, present=5, erased=1)
    left = [row for row in samples(0, 110) if row.sample_id not in ("s3", "s95")]
    assert system.newest().root == system.fresh_root(left)


@pytest.mark.parametrize("suffix", [".ids", ".sums"])
def test_what_is_damaged_beside_the_rows_is_refused(system_of: SystemOf, suffix: str) -> None:
    system = system_of()
    coordinator = system.coordinator()
    prefix = coordinator.begin_ingest()
    table = system.pipeline().rows(samples(90, 95))
    put_sums(system.store, f"{prefix}a", table, len(system.manifest.config.labels))
    put_rows(system.store, system.hash_key, f"{prefix}a-0", table, seed=0)
    name = f"{prefix}a-0.ids" if suffix == ".ids" else f"{prefix}a.sums"
    data = bytearray(system.store.get(name))
    data[-3] ^= 1
    system.store.put(name, bytes(data))
    future = coordinator.ingest(prefix)
    finish(coordinator)
    with pytest.raises(ObjectCorruptError, match="does not have the digest"):
        future.result()
    assert system.newest().rows == 90


def test_an_empty_ingest_adds_nothing(system_of: SystemOf) -> None:
    coordinator = system_of().coordinator()
    done = coordinator.ingest(coordinator.begin_ingest())
    finish(coordinator)
    assert done.result(timeout=0) == IngestOutcome(0, 0, 0)


@pytest.mark.parametrize("start", [200, 89], ids=["new rows", "a row that is there among them"])
def test_a_sweep_that_fails_after_an_ingest_is_repeated_and_adds_nothing_twice(system_of: SystemOf, start: int) -> None:
    original = system_of()
    store = NoPurge(Path(original.store.uri))
    system = replace(original, store=store)
    coordinator = system.coordinator()
    prefix = coordinator.begin_ingest()
    put(system, prefix, start, start + 10)
    done = coordinator.ingest(prefix)
    store.refuses = True
    with pytest.raises(StoreError, match="cannot purge"):
        coordinator.step()
    store.refuses = False
    finish(coordinator)
    assert coordinator.idle()
    added = 10 if start == 200 else 9
    assert (done.result(timeout=0), system.newest().rows) == (IngestOutcome(added, 10 - added, 0), 90 + added)
    assert system.store.names("incoming/") == []


@both
def test_an_ingest_that_began_between_a_deletion_and_its_erasure_is_dropped(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    coordinator.delete(DeletionRequest(subject_ids=("u205",)))
    prefix = coordinator.begin_ingest()
    put(system, prefix, 200, 210)
    finish(coordinator)
    assert holders(system, 205) == []
    with pytest.raises(RequestError, match="erased in between"):
        coordinator.ingest(prefix)


def test_rows_that_a_running_ingest_writes_after_their_erasure_are_found_within_seconds(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = system_of()
    coordinator = system.coordinator()
    prefix = coordinator.begin_ingest()
    coordinator.delete(DeletionRequest(("s3",)))
    finish(coordinator)
    put(system, prefix, 3, 5)
    now = time.monotonic() + prefixes.WATCH_S
    monkeypatch.setattr(time, "monotonic", lambda: now)
    coordinator.prefixes.renew(prefix)
    finish(coordinator)
    assert holders(system, 3) == []
