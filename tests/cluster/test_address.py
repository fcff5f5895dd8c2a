"""A missing Ray is reported at once, and an invalid address is refused with the allowed forms."""

from __future__ import annotations

import functools
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import grpc
import pytest
from command_line import Run
from ray import _raylet
from ray._private import ray_constants, services

from cluster import address, job_table
from cluster.address import cluster_address
from cluster.runtime import free_port
from lmeraser.errors import ConfigError, LMEraserError


@pytest.fixture(autouse=True)
def no_ray_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without Ray; the folder where Ray notes the one that was started."""
    monkeypatch.setattr(services, "find_gcs_addresses", functools.cache(lambda: frozenset()))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    # Set first, so that it is put back afterwards.
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setattr(address, "_GRPC_TIMEOUT_S", 0.5)
    (tmp_path / "ray").mkdir()
    return tmp_path / "ray"


@pytest.fixture
def web_server() -> Iterator[int]:
    """The port of a server that is not Ray."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_an_address_where_nothing_answers_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    for dead in (f"127.0.0.1:{free_port()}", f"localhost:{free_port()}", "nowhere.invalid:6379"):
        monkeypatch.setenv("RAY_ADDRESS", dead)
        with pytest.raises(LMEraserError, match=rf"cannot connect to Ray at {dead} \(RAY_ADDRESS\): nothing answers"):
            cluster_address()
    monkeypatch.setenv("RAY_ADDRESS", f"ray://127.0.0.1:{free_port()}")
    with pytest.raises(LMEraserError, match=r"nothing answers at ray://127.0.0.1:\d+ \(RAY_ADDRESS\)"):
        cluster_address()


def test_a_server_that_is_not_ray_is_reported(monkeypatch: pytest.MonkeyPatch, web_server: int) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{web_server}")
    with pytest.raises(LMEraserError, match="or it is not Ray"):
        cluster_address()


def test_a_server_that_accepts_connections_and_stays_silent_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(LMEraserError, match="or it is not Ray"):
            cluster_address()


@pytest.mark.parametrize(
    "wrong",
    ["http://127.0.0.1:8265", "https://ray.example.com", "127.0.0.1", "head:port", ":6379", "head:0", "ray://head"],
)
def test_an_invalid_ray_address_is_refused_with_the_allowed_forms(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", wrong)
    with pytest.raises(ConfigError, match=rf"RAY_ADDRESS is '{wrong}'; allowed is host:port") as caught:
        cluster_address()
    assert ("`ray job submit --address` takes" in str(caught.value)) == wrong.startswith("http")


@pytest.mark.parametrize("ray_address", [None, "", "local"])
def test_a_ray_that_has_died_is_ignored(
    no_ray_here: Path, monkeypatch: pytest.MonkeyPatch, ray_address: str | None
) -> None:
    (no_ray_here / "ray_current_cluster").write_text(f"127.0.0.1:{free_port()}\n")
    if ray_address is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", ray_address)
    assert cluster_address() is None
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(LMEraserError, match="no Ray runs on this machine"):
        cluster_address()


@pytest.mark.parametrize("noted", [False, True])
def test_the_job_table_is_read_from_the_running_ray(
    no_ray_here: Path, monkeypatch: pytest.MonkeyPatch, noted: bool
) -> None:
    control_store = Mock()
    control_store.return_value.get_all_job_info.return_value = {}
    control_store.return_value.internal_kv_keys.return_value = []
    greeter = grpc.server(ThreadPoolExecutor(1))
    live = f"127.0.0.1:{greeter.add_insecure_port('127.0.0.1:0')}"
    greeter.start()
    monkeypatch.setattr(_raylet, "GcsClient", control_store)
    monkeypatch.setattr(job_table, "authenticate", lambda: None)
    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", ray_constants.ENABLE_RAY_CLUSTER)
    monkeypatch.setattr(address, "_GRPC_TIMEOUT_S", 20.0)
    if noted:
        # A dead Ray does not hide a running one.
        (no_ray_here / "ray_current_cluster").write_text(f"127.0.0.1:{free_port()}\n")
        monkeypatch.setattr(services, "find_gcs_addresses", functools.cache(lambda: frozenset([live])))
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", live)
    try:
        assert job_table.job_table() == []
    finally:
        greeter.stop(None).wait()
    control_store.assert_called_once_with(address=live)


@pytest.mark.parametrize("ray_address", ["127.0.0.1:1", "ray://127.0.0.1:1", "auto", "http://127.0.0.1:8265"])
def test_a_job_table_that_cannot_be_read_raises_os_error(monkeypatch: pytest.MonkeyPatch, ray_address: str) -> None:
    monkeypatch.setattr(job_table, "authenticate", lambda: None)
    monkeypatch.setenv("RAY_ADDRESS", ray_address)
    with pytest.raises(OSError, match="RAY_ADDRESS"):
        job_table.job_table()


@pytest.mark.parametrize(
    ("folder", "reason"),
    [("a" * 100, "AF_UNIX path length"), ("file/below", "Not a directory"), ("/proc/nowhere", "No such file")],
)
def test_a_folder_in_which_ray_cannot_start_is_named(
    lmeraser: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, reason: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / folder))
    monkeypatch.setenv("HOME", str(tmp_path))
    config = tmp_path / "config.yaml"
    config.write_text("private: {kind: digits}\n")
    ran = lmeraser("pretrain", "--config", config, "--store", tmp_path / "store")
    ran.failed(1, "cannot start Ray: ", "files and logs go to", str(tmp_path / folder), "RAY_TMPDIR", reason)
    assert ("with a shorter path" in ran.err) == (reason == "AF_UNIX path length")
    assert os.environ["RAY_ADDRESS"] == "local"
