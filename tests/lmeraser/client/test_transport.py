"""Which way a call takes: never by a proxy to this machine, and elsewhere an error names the proxy."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lmeraser.client.async_client import AsyncClient
from lmeraser.client.client import Client
from lmeraser.client.transport import checked_url, is_local, proxy_of
from lmeraser.errors import ConfigError, ServiceError, ServiceUnavailableError

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *map(str.lower, VARIABLES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("lmeraser.client.exchange.MIN_BACKOFF_S", 0.0)


@contextmanager
def listening(status: int, host: str = "127.0.0.1") -> Iterator[tuple[int, list[str]]]:
    """An HTTP server that gives one answer; its port, and the lines of what it is asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.requestline}\n{self.headers}")
            body = b'{"commit": 1, "clusters": []}' if status == 200 else b"denied by policy"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    with Server((host, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server.server_address[1], asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "0.0.0.0", "[::1]"])
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "http_proxy"])
def test_a_call_to_this_machine_bypasses_proxies(monkeypatch: pytest.MonkeyPatch, host: str, variable: str) -> None:
    with listening(403) as (proxy, to_proxy), listening(200, "::1" if ":" in host else "0.0.0.0") as (port, to_service):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy}")
        with Client(f"http://{host}:{port}", api_key="secret-key") as client:
            assert list(client.clusters()) == []
    assert to_proxy == []
    assert "secret-key" in to_service[0]


def test_the_async_client_takes_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async def clusters(url: str) -> list[Any]:
        async with AsyncClient(url, api_key="secret-key") as client:
            return [cluster async for cluster in client.clusters()]

    with listening(403) as (proxy, to_proxy), listening(200) as (port, _):
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy}")
        assert asyncio.run(clusters(f"http://127.0.0.1:{port}")) == []
        assert to_proxy == []
        with pytest.raises(ServiceError, match=f"403 denied by policy .through the proxy http://127.0.0.1:{proxy} "):
            asyncio.run(clusters("http://service.example"))


def test_an_error_of_a_remote_service_names_the_proxy_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(403) as (proxy, to_proxy):
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pass-word@127.0.0.1:{proxy}")
        with Client("http://service.example") as client, pytest.raises(ServiceError) as caught:
            list(client.clusters())
    assert f"denied by policy (through the proxy http://127.0.0.1:{proxy} from the environment)" in str(caught.value)
    assert "pass-word" not in str(caught.value)
    assert len(to_proxy) == 1


def test_a_proxy_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    with Client("http://service.example") as client, pytest.raises(ServiceUnavailableError) as caught:
        list(client.clusters())
    assert f"(through the proxy http://127.0.0.1:{port} from the environment)" in str(caught.value)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost.", "api.localhost", "127.0.0.1", "127.1.2.3", "[::1]", "0.0.0.0"]
)
def test_every_name_of_this_machine_is_local(host: str) -> None:
    assert is_local(f"http://{host}:8000/lm")


@pytest.mark.parametrize("host", ["localhost.example", "10.0.0.1", "notlocalhost", "127.0.0.1.nip.io", "[fe80::1]"])
def test_other_names_are_not_local(host: str) -> None:
    assert not is_local(f"http://{host}:8000")


def test_the_proxy_is_the_one_that_the_call_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://secure:3128")
    monkeypatch.setenv("ALL_PROXY", "socks5://all:1080")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert proxy_of("https://service.example") == "http://secure:3128"
    assert proxy_of("http://service.example") == "socks5://all:1080"
    assert proxy_of("https://inside.example") is None
    assert proxy_of("http://127.0.0.1:8000") is None


@pytest.mark.parametrize(
    "url", ["localhost:8000", "http://", "http:///v1", "ftp://host", "http://host:port", "http://[::1"]
)
def test_a_malformed_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="allowed is http://HOST:PORT"):
        checked_url(url)
