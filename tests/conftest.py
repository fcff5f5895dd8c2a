"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Ran, Run
from small_system import System, build_system

from benchmarks.lib.s3_server import CREDENTIALS, S3Server, s3_server
from lmeraser.store import LocalStore, Store, open_store

DATA = Path(os.environ.get("LMERASER_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real images and a real backbone; tests that need them are skipped where they are not."""
    if not (DATA / "weights").is_dir():
        pytest.skip(f"no real data in {DATA}; set LMERASER_DATA")
    return DATA


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], System]:
    """Systems by variant and number of rows, built once."""
    found: dict[tuple[str, int], System] = {}

    def get(variant: str, rows: int) -> System:
        if (variant, rows) not in found:
            found[variant, rows] = build_system(tmp_path_factory.mktemp(variant), variant, rows)
        return found[variant, rows]

    return get


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server of S3's protocol on loopback; the credentials of this process are those that it takes."""
    patch = pytest.MonkeyPatch()
    for name, value in CREDENTIALS.items():
        patch.setenv(name, value)
    with s3_server() as server:
        yield server
    patch.undo()


@pytest.fixture
def medium() -> str:
    """Where stores lie: in a "folder", or in a bucket of "s3"; tests that run on both are parametrised by it."""
    return "folder"


@pytest.fixture
def new_store(medium: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Store]:
    """New empty stores by name."""
    if medium == "folder":
        return lambda name: LocalStore(tmp_path / name)
    server: S3Server = request.getfixturevalue("s3")
    bucket = server.bucket(versioned=medium == "s3 versioned")
    return lambda name: open_store(server.uri(bucket, name))


@pytest.fixture
def system_of(
    built: Callable[[str, int], System], new_store: Callable[[str], Store], tmp_path: Path
) -> Callable[..., System]:
    """A copy of a small system that a test may change."""

    def copy(variant: str = "token", rows: int = 90) -> System:
        original = built(variant, rows)
        store = new_store(f"{variant}-{rows}")
        for name in original.store.names():
            store.put(name, original.store.get(name))
        shutil.copytree(original.keys, tmp_path / f"{variant}-{rows}-keys")
        return replace(original, store=store, keys=tmp_path / f"{variant}-{rows}-keys")

    return copy


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A Ray of this test session's own."""
    import ray

    from cluster.runtime import connect

    patch = pytest.MonkeyPatch()
    # The last is set by the project itself; set here, it is put back afterwards.
    mine = {"RAY_ADDRESS": "local", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    for name, value in {**mine, **CREDENTIALS}.items():
        patch.setenv(name, value)
    connect()
    yield
    ray.shutdown()
    patch.undo()


@pytest.fixture
def recomputed_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh runs in a thread of the test's process; worker processes take long to start."""
    from lmeraser.proof import recompute

    def executor(count: int, _context: object, **options: Any) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(count, **options)

    monkeypatch.setattr(recompute, "ProcessPoolExecutor", executor)


@pytest.fixture
def lmeraser(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``lmeraser`` in this process; an exception that is not an exit, so a traceback, goes to the test."""
    monkeypatch.delenv("LMERASER_HASH_KEY", raising=False)
    monkeypatch.delenv("LMERASER_KEYS", raising=False)
    # Another Ray of this machine is not to be found.
    monkeypatch.setenv("RAY_ADDRESS", "local")

    def run(*arguments: object) -> Ran:
        from cluster.cli import app, output

        stdout = sys.stdout
        monkeypatch.setattr(sys, "argv", ["lmeraser", *map(str, arguments)])
        # Results go to the stdout that was there when the module was loaded.
        monkeypatch.setattr(output, "_stdout", stdout)
        try:
            with pytest.raises(SystemExit) as ended:
                app.main()
        finally:
            # What libraries print, a command sends to stderr.
            sys.stdout = stdout
        printed = capsys.readouterr()
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    return run
