"""A proxy on loopback with the faults of networks and of other S3 providers: real HTTP, nothing patched."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

LOST, HALF = "lost", "half"
# What happens to a request: None (nothing), an answer (status, and the code of an error or a body), LOST (it is carried
# out, but its answer is not sent), HALF (half of the answer's body is sent), or the name of a header that is dropped.
Fault = tuple[int, str] | str | None


@dataclass
class S3Proxy:
    """Its address, the fault of the requests to come, and the requests so far."""

    endpoint: str
    fault: Callable[[str, str], Fault] = lambda _method, _path: None
    requests: list[str] = field(default_factory=list)

    def once(self, method: str, part: str, fault: Fault) -> None:
        """Do this to the first request of this method whose path holds the part, and nothing to others."""
        waiting = [fault]
        self.fault = lambda used, path: waiting.pop() if waiting and used == method and part in path else None

    def always(self, method: str, part: str, fault: Fault) -> None:
        """Do this to every request of this method whose path holds the part."""
        self.fault = lambda used, path: fault if used == method and part in path else None


@contextmanager
def s3_proxy(server: str) -> Iterator[S3Proxy]:
    """A proxy in front of the server at this address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            proxy.requests.append(f"{self.command} {self.path}")
            fault = proxy.fault(self.command, self.path)
            if isinstance(fault, tuple):
                status, code = fault
                error = f"<Error><Code>{code}</Code><Message>injected</Message></Error>"
                self._answer(status, [], (code if code.startswith("<") else error).encode())
                return
            headers = {name: value for name, value in self.headers.items() if name.lower() not in (fault, "expect")}
            upstream = http.client.HTTPConnection(urlsplit(server).netloc, timeout=30)
            try:
                upstream.request(self.command, self.path, body, headers)
                answer = upstream.getresponse()
                data = answer.read()
            finally:
                upstream.close()
            if fault == LOST:
                self.close_connection = True
                return
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in ("connection", "date")]
            self._answer(answer.status, kept, data, cut=fault == HALF)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

        def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() != "content-length" or self.command == "HEAD":
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if cut else data)
            self.close_connection = self.close_connection or cut

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    proxy = S3Proxy(f"http://127.0.0.1:{listening.server_address[1]}")
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listening.shutdown()
        thread.join(timeout=10)
        listening.server_close()
