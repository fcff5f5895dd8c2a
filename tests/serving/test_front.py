"""Heads that Serve's proxy reads are bounded: over sockets, with the server that it uses."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvicorn
import uvicorn.config

from serving import front


async def app(_: Any, receive: Any, send: Any) -> None:
    """Read the body, then answer with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(length).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", uvicorn.config.HTTP_PROTOCOLS["auto"])
    monkeypatch.setattr(front, "HEAD_TIMEOUT_S", 0.5)
    assert front.bound_heads() == []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_keep_alive=30))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join(30)


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        yield connection


def received_from(connection: socket.socket) -> bytes:
    """All bytes until the other side closes."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: a\r\nX-Half: ", b"POST / HTTP/1.1\r\n"])
def test_a_connection_without_a_complete_head_is_closed(port: int, begun: bytes) -> None:
    with connected(port) as connection:
        connection.sendall(begun)
        assert received_from(connection) == b""


def test_a_head_that_arrives_too_slowly_is_closed(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with suppress(OSError):
            for _ in range(400):
                connection.sendall(b"X-A: b\r\n")
                time.sleep(0.05)
            pytest.fail("the connection stayed open for 20 s")


def test_a_head_that_is_too_long_gets_431_before_its_end(port: int) -> None:
    with connected(port) as connection:
        sent = 0
        try:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: ")
            while sent < 100 * front.MAX_HEAD_BYTES:
                connection.sendall(b"a" * 65536)
                sent += 65536
        except OSError:
            pass
        else:
            pytest.fail("the whole head was read")
        assert sent < 100 * front.MAX_HEAD_BYTES
    with connected(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nX-Long: " + b"a" * front.MAX_HEAD_BYTES)
        assert received_from(connection).startswith(b"HTTP/1.1 431 ")


def test_each_request_on_a_connection_has_its_own_bounds(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * (front.MAX_HEAD_BYTES // 2)
    with connected(port) as connection:
        for _ in range(5):
            connection.sendall(head + b"\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)
            answer = b""
            while not answer.endswith(b"\r\n\r\n300000"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")
        # The next head is only half sent.
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert received_from(connection) == b""


def test_a_body_may_take_longer_than_a_head(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\n")
        for _ in range(4):
            time.sleep(0.3)
            connection.sendall(b"x")
        assert received_from(connection).endswith(b"\r\n\r\n4")
