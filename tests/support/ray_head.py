"""A Ray head of a test's own, started as an operator starts one, with token authentication."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from processes import descendants, kill

from cluster.runtime import free_port

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Head:
    """Its addresses, and the environment in which commands find it and its token."""

    address: str
    dashboard: str
    token: Path
    environment: dict[str, str]
    pid: int

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command and wait until it ends, for at most five minutes."""
        settings = {**self.environment, **environment}
        return subprocess.run(command, env=settings, capture_output=True, text=True, timeout=300, check=False)


@contextmanager
def ray_head() -> Iterator[Head]:
    """Start a head on free ports; all of its processes are killed when the block ends."""
    # Short, because the paths of sockets must be.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        token = Path(folder) / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"RAY_AUTH_TOKEN_PATH": str(token), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        ports = [free_port() for _ in range(4)]
        options = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
        command = [
            "ray",
            "start",
            "--head",
            "--block",
            "--num-cpus=2",
            "--disable-usage-stats",
            f"--temp-dir={folder}/ray",
        ]
        command += [
            "--dashboard-host=127.0.0.1",
            *(f"--{name}={port}" for name, port in zip(options, ports, strict=True)),
        ]
        with (Path(folder) / "head.log").open("w") as log:
            process = subprocess.Popen(
                command,
                env={**environment, "RAY_AUTH_MODE": "token", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        head = Head(f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", token, environment, process.pid)
        try:
            _await_jobs(head, process)
            yield head
        finally:
            # Parents first, so that none of them restarts a child.
            for pid in [process.pid, *reversed(list(descendants(process.pid)))]:
                kill(pid)
            process.wait()


def _await_jobs(head: Head, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    headers = {"Authorization": f"Bearer {head.token.read_text()}"}
    while True:
        assert process.poll() is None, "the Ray head did not start"
        try:
            if httpx2.get(f"{head.dashboard}/api/jobs/", headers=headers).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        assert time.monotonic() < deadline, "the Ray head does not accept jobs"
        time.sleep(0.2)
