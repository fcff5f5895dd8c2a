"""An ingest whose processes are killed: repeated, it adds each row once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from processes import kill, named
from small_system import LABELS, System, samples
from stored_rows import rows_of

from actors.remote.names import NAMESPACE, coordinator_name
from actors.remote.placement import StoreRef
from cluster.jobs import IngestSummary, ingest
from cluster.runtime import coordinator_of
from lmeraser.config import SourceConfig
from lmeraser.data import Sample
from lmeraser.state.rows import RowTable

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]
ROWS = 600
# Ingests with a running Ray, and prints a line once the first rows are in the store.
DRIVER = """
import sys, threading
from actors.remote.names import coordinator_name
from actors.remote.placement import StoreRef
from cluster.jobs import ingest
from cluster.runtime import connect, coordinator_of
from lmeraser.config import SourceConfig
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store
store, keys, images = sys.argv[1:]
connect()
site, manifest = StoreRef(store, keys), load_manifest(open_store(store))
report = lambda what, done, rows: print(done, flush=True)
ingest(coordinator_of(site, manifest), site, manifest, SourceConfig("image_folder", images),
       skip_bad=False, force=False, report=report)
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for row in samples(0, ROWS):
        folder = tmp_path / "images" / LABELS[row.label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row.sample_id}.png").write_bytes(row.image)
    return tmp_path / "images"


@pytest.fixture
def system(system_of: Callable[..., System]) -> Iterator[System]:
    system = system_of("coarse", 0)
    yield system
    for name in [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]:
        if system.manifest.store_id in name:
            ray.kill(ray.get_actor(name, namespace=NAMESPACE))


def ingested(system: System, images: Path, report: Callable[[str, int, int], None] = lambda *_: None) -> IngestSummary:
    site = StoreRef(system.store.uri, str(system.keys))
    coordinator: Any = coordinator_of(site, system.manifest)
    source = SourceConfig("image_folder", str(images))
    return ingest(coordinator, site, system.manifest, source, skip_bad=False, force=False, report=report)


def check_each_row_is_there_once(system: System) -> None:
    names = [f"{LABELS[row.label]}/{row.sample_id}.png" for row in samples(0, ROWS)]
    rows = [Sample(name, None, row.label, row.image) for name, row in zip(names, samples(0, ROWS), strict=True)]
    tables = [rows_of(system.store, entry) for entry in system.newest().clusters]
    assert RowTable.concatenate(tables, 0).digest() == RowTable.concatenate([system.pipeline().rows(rows)], 0).digest()


def test_a_killed_worker_is_restarted_and_adds_no_row_twice(system: System, images: Path) -> None:
    killed: list[int] = []

    def kill_one(_: str, done: int, rows: int) -> None:
        workers = named("ray::_write_incoming")
        if 0 < done < rows and workers and not killed:
            killed.append(workers[0])
            kill(workers[0])

    assert ingested(system, images, kill_one).outcome.added == ROWS
    assert killed
    check_each_row_is_there_once(system)
    assert system.store.names("incoming/") == []


def test_an_ingest_whose_caller_was_killed_can_be_repeated(system: System, images: Path) -> None:
    address = ray.get_runtime_context().gcs_address
    arguments = [sys.executable, "-c", DRIVER, system.store.uri, str(system.keys), str(images)]
    with subprocess.Popen(
        arguments, env={**os.environ, "RAY_ADDRESS": address}, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        for line in driver.stdout:
            if int(line) > 0:
                driver.send_signal(signal.SIGKILL)
    assert driver.returncode == -signal.SIGKILL
    assert ingested(system, images).outcome.added == ROWS
    check_each_row_is_there_once(system)
    # Repeated, as by a user who does not know that it has ended.
    assert ingested(system, images).outcome.added == 0
    check_each_row_is_there_once(system)
    ended = time.monotonic() + 120
    # Workers of the caller that was killed may have written to its end; the next coordinator drops its prefix.
    name = coordinator_name(system.manifest.store_id, system.store.uri)
    ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=False)
    while system.store.names("incoming/"):
        assert time.monotonic() < ended
        time.sleep(0.1)
