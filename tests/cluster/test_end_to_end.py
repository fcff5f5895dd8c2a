"""The system as its user runs it: Ray actors, Ray Serve over HTTP, the client, processes that are killed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import ray
from named_actors import end_actors
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from small_system import LABELS, System, picture, samples
from until import until

from actors.remote.names import NAMESPACE, coordinator_name, owner_name
from actors.remote.placement import StoreRef
from cluster.jobs import ingest, tune
from cluster.runtime import coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser.client.client import Client
from lmeraser.config import ServingConfig, SourceConfig
from lmeraser.data import Sample
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import ConfigError
from lmeraser.state.keys import load_signing_key, public_pem
from lmeraser.state.log import Log
from lmeraser.store import LocalStore

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]
SystemOf = Callable[..., System]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def running(system_of: SystemOf) -> Iterator[tuple[System, Any]]:
    """A small system whose coordinator and owners are Ray actors."""
    system = system_of()
    yield system, start(system)
    end_actors(system.manifest.store_id)


def start(system: System) -> Any:
    return coordinator_of(StoreRef(system.store.uri, str(system.keys)), system.manifest)


def without(*names: str) -> list[Sample]:
    return [row for row in samples(0, 90) if row.sample_id not in names]


def image_folder(folder: Path, rows: list[Sample]) -> tuple[SourceConfig, list[Sample]]:
    """A folder of the rows, and the rows under their names there."""
    named = [replace(row, sample_id=f"{LABELS[row.label]}/{row.sample_id}.png") for row in rows]
    for row in named:
        (folder / row.sample_id).parent.mkdir(parents=True, exist_ok=True)
        (folder / row.sample_id).write_bytes(row.image)
    return SourceConfig("image_folder", str(folder)), [replace(row, subject_id=None) for row in named]


def no_report(what: str, done: int, total: int) -> None:
    pass


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def completed(coordinator: Any, deletion_id: str) -> None:
    until = time.monotonic() + 200
    while time.monotonic() < until:
        try:
            if ray.get(coordinator.deletion.remote(deletion_id)).status == "completed":
                return
        except ray.exceptions.RayActorError:
            pass
        time.sleep(0.1)
    pytest.fail("the deletion did not complete")


def owner_that_starts(system: System, key: str) -> Any:
    """An idle coordinator starts the owners one after the other."""
    until = time.monotonic() + 120
    while True:
        try:
            return ray.get_actor(owner_name(system.manifest.store_id, system.store.uri, key), namespace=NAMESPACE)
        except ValueError:
            assert time.monotonic() < until, f"cluster {key} has no owner"
            time.sleep(0.1)


def pid_of(actor: Any) -> int:
    return int(ray.get(actor.location.remote()).pid)


def test_a_client_predicts_deletes_and_gets_a_receipt_over_http(running: tuple[System, Any], tmp_path: Path) -> None:
    system, coordinator = running
    with socket.create_server(("127.0.0.1", 0)) as occupied, pytest.raises(ConfigError, match="choose another"):
        start_service(system.store, system.keys, ServingConfig(), "127.0.0.1", occupied.getsockname()[1])
    url = start_service(system.store, system.keys, ServingConfig(), "127.0.0.1", free_port())
    try:
        with Client(url) as client:
            before = client.predict([picture(number) for number in range(300, 340)])
            deletion = client.delete(sample_ids=["s3"], subject_ids=["u40"])
            assert client.wait(deletion.id, status="erased", timeout_s=200).erased_at
            assert client.wait(deletion.id, timeout_s=200).status == "completed"
            # A commit that erases nothing is loaded in the background.
            newest = system.newest().number
            until(lambda: httpx2.get(f"{url}/readyz").json().get("commit") == newest or None, 30)
            after = client.predict([picture(number) for number in range(300, 340)])
            client.receipt(deletion.id).verify(public_pem(load_signing_key(system.keys).public_key()))
            commits = {answer.commit for answer in after}  # type: ignore[union-attr]
        expected = {
            "ray_lmeraser_predictions_total": 80,
            "ray_lmeraser_deletions": 1,
            "ray_lmeraser_time_to_erased_seconds_count": 1,
            "ray_lmeraser_rows": 88,
            "ray_lmeraser_commit": system.newest().number,
        }
        deploy = ROOT / "deploy"
        shown = "".join((deploy / name).read_text() for name in ("grafana-dashboard.json", "prometheus-alerts.yaml"))
        metrics = reported(expected, set(re.findall(r"ray_lmeraser_\w+", shown)))
        # Ingest workers find room although the service and the owners hold most of the CPUs.
        served = system.newest()
        source, more = image_folder(tmp_path / "images", samples(90, 92))
        site = StoreRef(system.store.uri, str(system.keys))
        ingest(coordinator, site, system.manifest, source, skip_bad=False, force=False, report=no_report)
        tune(coordinator, no_report)
    finally:
        stop_service()
    assert len(before) == len(after) == 40
    assert commits == {served.number}
    assert served.root == system.fresh_root(without("s3", "s40"))
    assert system.newest().root == system.fresh_root([*without("s3", "s40"), *more])
    labels = {value for family in metrics for sample in family.samples for value in sample.labels.values()}
    assert labels.isdisjoint({"s3", "u40", deletion.id})
    # No label grows with the number of clusters.
    assert labels.isdisjoint(entry.key for entry in served.clusters)
    records = Log(system.store).advance()
    erased = next(record for record in records if record.kind == "erased")
    commit = next(record for record in records if deletion.id in str(record.body.get("erasures", "")))
    waited = datetime.fromisoformat(erased.at) - datetime.fromisoformat(commit.at)
    assert waited.total_seconds() >= system.manifest.lease_s


def reported(expected: Mapping[str, float], shown: set[str]) -> list[Metric]:
    """The metrics that Ray exports, once some process has these totals and none that is shown is missing.

    Each process reports at its own times.
    """
    until = time.monotonic() + 200
    port = ray.nodes()[0]["MetricsExportPort"]
    while True:
        text = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
        families = [family for family in text_string_to_metric_families(text) if "lmeraser" in family.name]
        totals = {name: by_process(families, name) for name in expected}
        missing = shown - {sample.name for family in families for sample in family.samples}
        if not missing and all(value in totals[name] for name, value in expected.items()):
            return families
        assert time.monotonic() < until, (totals, missing)
        time.sleep(1.0)


def by_process(metrics: list[Metric], name: str) -> set[float]:
    """Totals by process; those of systems of other tests are among them."""
    totals: defaultdict[str, float] = defaultdict(float)
    for sample in (sample for family in metrics for sample in family.samples if sample.name == name):
        totals[sample.labels["WorkerId"]] += sample.value
    return set(totals.values())


def test_rows_are_ingested_by_ray_workers_and_tuned_by_their_owners(system_of: SystemOf, tmp_path: Path) -> None:
    system = system_of(rows=0)
    source, rows = image_folder(tmp_path / "images", samples(0, 36))
    coordinator = start(system)
    site = StoreRef(system.store.uri, str(system.keys))
    with pytest.raises(KeyboardInterrupt):
        ingest(coordinator, site, system.manifest, source, skip_bad=False, force=False, report=interrupt)
    job = ingest(coordinator, site, system.manifest, source, skip_bad=False, force=False, report=no_report)
    status = tune(coordinator, no_report)
    end_actors(system.manifest.store_id)
    assert (job.outcome.added, status.rows, status.awaiting) == (36, 36, ())
    assert system.store.names("incoming/") == []
    assert system.newest().root == system.fresh_root(rows)


def test_every_cluster_has_an_owner_of_its_own(running: tuple[System, Any]) -> None:
    system, coordinator = running
    ray.get(coordinator.status.remote())
    owners = [owner_that_starts(system, entry.key) for entry in system.newest().clusters]
    assert len({pid_of(owner) for owner in owners}) == len(system.newest().clusters)


def test_a_killed_coordinator_finishes_the_requests_that_it_accepted(running: tuple[System, Any]) -> None:
    system, coordinator = running
    deletion = ray.get(coordinator.delete.remote(DeletionRequest(("s3",))))
    os.kill(ray.get(coordinator.location.remote()).pid, signal.SIGKILL)
    completed(coordinator, deletion.id)
    assert system.newest().root == system.fresh_root(without("s3"))


def test_an_owner_that_is_killed_while_it_tunes_is_started_again(running: tuple[System, Any]) -> None:
    system, coordinator = running
    deletion = ray.get(coordinator.delete.remote(DeletionRequest(("s3",))))
    until = time.monotonic() + 120
    while not (tuning := ray.get(coordinator.status.remote()).running) and time.monotonic() < until:
        time.sleep(0.005)
    owner = ray.get_actor(owner_name(system.manifest.store_id, system.store.uri, tuning[0]), namespace=NAMESPACE)
    os.kill(pid_of(owner), signal.SIGKILL)
    completed(coordinator, deletion.id)
    assert system.newest().root == system.fresh_root(without("s3"))


def test_an_owner_that_is_frozen_before_its_write_restores_no_erased_row(running: tuple[System, Any]) -> None:
    system, coordinator = running
    ray.get(coordinator.delete.remote(DeletionRequest(("s3",))))
    until = time.monotonic() + 120
    while not (tuning := ray.get(coordinator.status.remote()).running) and time.monotonic() < until:
        time.sleep(0.005)
    pid = pid_of(ray.get_actor(owner_name(system.manifest.store_id, system.store.uri, tuning[0]), namespace=NAMESPACE))
    os.kill(pid, signal.SIGSTOP)
    entry = system.newest().entry(tuning[0])
    assert entry is not None
    second = ray.get(coordinator.delete.remote(DeletionRequest(("s4", *(row.sample_id for row in samples(5, 30))))))
    completed(coordinator, second.id)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    rows = without("s3", "s4", *(row.sample_id for row in samples(5, 30)))
    assert system.newest().root == system.fresh_root(rows)
    for prefix in ("prompts/", "prompted/"):
        named = {name for name in system.newest().objects() if name.startswith(prefix)}
        assert set(system.store.names(prefix)) == named


def test_a_copied_store_has_a_coordinator_of_its_own(running: tuple[System, Any], tmp_path: Path) -> None:
    system, coordinator = running
    copy = System(LocalStore(shutil.copytree(system.store.uri, tmp_path / "copy")), system.keys)
    deletion = ray.get(start(copy).delete.remote(DeletionRequest(("s3",))))
    completed(start(copy), deletion.id)
    assert copy.newest().root == copy.fresh_root(without("s3"))
    assert ray.get(coordinator.status.remote()).rows == system.newest().rows == 90


def test_a_coordinator_has_one_name(running: tuple[System, Any]) -> None:
    system, coordinator = running
    again = start(system)
    assert ray.get(again.status.remote()).term == ray.get(coordinator.status.remote()).term
    assert ray.get_actor(coordinator_name(system.manifest.store_id, system.store.uri), namespace=NAMESPACE)
