"""Moto's server, which speaks the S3 protocol, as a separate process on loopback."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3.session

# moto checks no credentials while its authorisation is off.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
_LINE = re.compile(r'"(?:\x1b\[\d+m)*([A-Z]+) (\S+) HTTP')


class S3Server:
    """The server: its address, the requests that it has answered, and clients that talk to it directly."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.requests: list[str] = []
        self._numbers = itertools.count()
        self._session = boto3.session.Session()
        self._s3 = self.client()

    def client(self, service: str = "s3", **options: Any) -> Any:
        """A plain boto3 client."""
        defaults = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", "region_name": "us-east-1"}
        return self._session.client(service, endpoint_url=self.endpoint, **{**defaults, **options})

    def bucket(self, *, versioned: bool = False, **options: Any) -> str:
        """The name of a new bucket."""
        name = f"bucket-{next(self._numbers)}"
        self._s3.create_bucket(Bucket=name, **options)
        if versioned:
            self._s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def uri(self, bucket: str, prefix: str = "store") -> str:
        """The URI of a store in the bucket."""
        return f"s3://{bucket}/{prefix}".rstrip("/") + f"?endpoint={self.endpoint}"

    def counted(self, start: int) -> Counter[str]:
        """The requests since ``start`` (a length of ``requests``) by kind."""
        return Counter(_kind(line) for line in self.requests[start:])


def _kind(request: str) -> str:
    method, _, path = request.partition(" ")
    parameters = {part.partition("=")[0] for part in path.partition("?")[2].split("&")}
    if method == "GET" and parameters & {"list-type", "versions", "uploads"}:
        return "LIST"
    return "DELETE" if "delete" in parameters else method


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Start a server for the length of the block."""
    environment = {**os.environ, **CREDENTIALS, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, __file__, "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        server: S3Server | None = None
        try:
            for line in process.stderr:
                if match := re.search(r"Running on (http://[\d.:]+)", line):
                    server = S3Server(match[1])
                    break
            assert server is not None, "moto's server did not start"
            reader = threading.Thread(target=_read_log, args=(process.stderr, server.requests), daemon=True)
            reader.start()
            yield server
        finally:
            process.kill()


def _read_log(lines: Iterator[str], requests: list[str]) -> None:
    for line in lines:
        if match := _LINE.search(line):
            requests.append(f"{match[1]} {match[2]}")


def _serve() -> None:
    """Moto's server with atomic conditional puts, as on S3: moto itself checks first and puts afterwards."""
    from moto.s3.responses import S3Response
    from moto.server import main

    put_object, lock = S3Response.put_object, threading.Lock()

    def put_atomically(response: S3Response) -> Any:
        with lock:
            return put_object(response)

    S3Response.put_object = put_atomically  # type: ignore[assignment, method-assign]
    main()


if __name__ == "__main__":
    _serve()
