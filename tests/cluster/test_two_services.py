"""Services on one Ray: each answers from its own store, and services are never confused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
import ray
from named_actors import end_actors
from processes import REPLICA, named
from ray import serve
from small_system import System

from cluster.applications import running_serve
from cluster.runtime import free_port
from cluster.service import start_service, stop_service
from lmeraser.client.client import Client
from lmeraser.config import ServingConfig
from lmeraser.store import open_store

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]
SystemOf = Callable[..., System]
ROOT = Path(__file__).parent.parent.parent
CONFIG = ServingConfig()


@pytest.fixture
def two(system_of: SystemOf) -> Iterator[tuple[System, System]]:
    """A system and its copy: the same store id, different places, and one row less in the copy."""
    system = system_of("minute", 24).with_lease(0.2)
    copy = replace(system, store=open_store(f"{system.store.uri}-copy"))
    for name in system.store.names():
        copy.store.put(name, system.store.get(name))
    copy.delete("s3")
    yield system, copy
    stop_service()
    end_actors(system.manifest.store_id)


def command(system: System, port: int, *options: str) -> list[str]:
    at = ("--store", system.store.uri, "--keys", str(system.keys), "--port", str(port))
    return [sys.executable, "-m", "cluster.cli", "serve", *at, *options]


def environment() -> dict[str, str]:
    return {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}


def refused(system: System, port: int) -> str:
    """What the command says that ends at once."""
    ran = subprocess.run(
        command(system, port), env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr
    assert "Traceback" not in ran.stderr
    return " ".join(ran.stderr.split())


@contextmanager
def served(system: System, port: int) -> Iterator[subprocess.Popen[str]]:
    """The command, once the service answers."""
    process = subprocess.Popen(
        command(system, port), env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}" in process.stdout.readline(), process.communicate()[1]
        yield process
    finally:
        process.kill()
        process.communicate()


def rows(url: str) -> int | None:
    """How many rows the store has from which a service answers; None where none answers."""
    try:
        answer = httpx2.get(f"{url}/v1/commit", timeout=60)
    except httpx2.TransportError:
        return None
    return int(answer.json()["rows"]) if answer.status_code == 200 else None


def test_a_second_store_is_refused_and_the_first_keeps_its_service(two: tuple[System, System]) -> None:
    first, second = two
    port = free_port()
    url = start_service(first.store, first.keys, CONFIG, "127.0.0.1", port)
    before = named(REPLICA)
    for requested_port in (port, free_port()):
        error = refused(second, requested_port)
        assert f"already serves {first.store.uri} at {url}" in error
        assert f"serve {second.store.uri} on a Ray of its own (RAY_ADDRESS=local, another --port)" in error
    # The same store by another name, port and key folder is not a second service either.
    link = Path(f"{first.store.uri}-link")
    link.symlink_to(first.store.uri)
    other_keys = first.keys.with_name("other-keys")
    other_keys.symlink_to(first.keys)
    again = replace(first, store=open_store(str(link)), keys=other_keys)
    assert f"{first.store.uri} is already served at {url}" in refused(again, free_port())
    assert named(REPLICA) == before
    assert rows(url) == 24
    # A refused command has started no coordinator, and a deletion only reaches the coordinator of its store.
    before_deletion = second.store.names()
    with Client(url) as client:
        client.wait(client.delete(sample_ids=["s4"]).id, timeout_s=200)
    assert (rows(url), second.newest().rows) == (23, 23)
    assert second.store.names() == before_deletion


def test_a_service_ends_only_with_its_own_command(two: tuple[System, System]) -> None:
    first, second = two
    with served(second, free_port()) as running:
        # This process runs no service.
        stop_service()
        serve_status = running_serve()
        assert serve_status is not None
        assert [application.store for application in serve_status.applications] == [second.store.uri]
        assert rows(serve_status.url) == 23
        running.kill()
        running.wait()
        assert rows(serve_status.url) == 23
        assert f"already serves {second.store.uri} at {serve_status.url}" in refused(first, free_port())
        # The next command on the same store takes over the service of a killed one, on any port.
        with served(second, free_port()) as successor:
            assert rows(serve_status.url) is None
            successor.send_signal(signal.SIGTERM)
            _, errors = successor.communicate(timeout=120)
            assert successor.returncode == 0, errors
            assert "graceful_shutdown" not in errors
    assert running_serve() is None
    port = free_port()
    with served(first, port) as ended_by_others:
        assert rows(f"http://127.0.0.1:{port}") == 24
        serve_status = running_serve()
        assert serve_status is not None
        serve.delete(serve_status.applications[0].name)
        _, errors = ended_by_others.communicate(timeout=120)
        assert ended_by_others.returncode == 1
        assert f"the service of {first.store.uri} was ended by another command" in " ".join(errors.split())
        assert "Traceback" not in errors
