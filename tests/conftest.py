"""Fixtures that several packages' tests share."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from by_file import ByFile, position
from command_line import CommandResult, Run

from benchmarks.lib.s3_server import CREDENTIALS, S3Server, s3_server
from lmeraser.store import LocalStore, Store, open_store

# Not at run time: pytest-xdist's main process reads this file too, and would import PyTorch before workers start.
if TYPE_CHECKING:
    from small_system import System
    from xdist.remote import Producer

    from benchmarks.lib.s3_server import S3Server

# What imports create, above all PyTorch's, lasts until the process ends: collections find nothing in it.
gc.disable()

DATA = Path(os.environ.get("LMERASER_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start Ray come first, because they take longest."""
    items.sort(key=lambda item: position(item.path, item.get_closest_marker("ray") is not None))


def pytest_collection_finish() -> None:
    """Tests collect the garbage that they make, and no longer go through what imports created."""
    gc.freeze()
    gc.enable()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile | None:
    """Tests that start Ray run file by file: they share what the file's fixtures make."""
    return ByFile(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(scope="session", autouse=True)
def no_sync_to_disk() -> Iterator[None]:
    """Stores in this process leave writing back to the operating system: tests kill processes, not the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real images and a real backbone; tests that need them are skipped without them."""
    if not (DATA / "weights").is_dir():
        pytest.skip(f"no real data in {DATA}; set LMERASER_DATA")
    return DATA


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., System]:
    """Systems by variant, number of rows and what was done with them afterwards, each built once per worker."""
    from small_system import build_system

    systems: dict[tuple[str, int, Callable[[System], None] | None], System] = {}

    def get(variant: str, rows: int, after: Callable[[System], None] | None = None) -> System:
        if (variant, rows, after) not in systems:
            folder = tmp_path_factory.mktemp(variant)
            if after is None:
                system = build_system(folder, variant, rows)
            else:
                system = copied(get(variant, rows), LocalStore(folder / "store"), folder / "keys")
                after(system)
            systems[variant, rows, after] = system
        return systems[variant, rows, after]

    return get


def copied(original: System, store: Store, keys: Path) -> System:
    """A copy of a system in a folder, in another folder or in a bucket."""
    if isinstance(store, LocalStore):
        shutil.copytree(original.store.uri, store.uri, copy_function=shutil.copyfile, dirs_exist_ok=True)
    else:
        for name in original.store.names():
            store.put(name, original.store.get(name))
    shutil.copytree(original.keys, keys)
    return replace(original, store=store, keys=keys)


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A server of S3's protocol on loopback, with its credentials in this process's environment."""

    patch = pytest.MonkeyPatch()
    for name, value in CREDENTIALS.items():
        patch.setenv(name, value)
    with s3_server() as server:
        yield server
    patch.undo()


@pytest.fixture
def medium() -> str:
    """The kind of store: a "folder", or a bucket of "s3" or "s3 versioned"; tests may be parametrised by it."""
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
def system_of(built: Callable[..., System], new_store: Callable[[str], Store], tmp_path: Path) -> Callable[..., System]:
    """A copy of a small system that a test may change.

    What ``after`` does with the system, a function of a module, is done once per worker and copied with it.
    """

    def copy(variant: str = "token", rows: int = 90, after: Callable[[System], None] | None = None) -> System:
        name = f"{variant}-{rows}"
        return copied(built(variant, rows, after), new_store(name), tmp_path / f"{name}-keys")

    return copy


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A Ray cluster that the tests of one worker share."""
    import ray

    from cluster.runtime import connect

    patch = pytest.MonkeyPatch()
    # The project itself sets the second; set here, it is restored afterwards.
    variables = {"RAY_ADDRESS": "local", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    for name, value in {**variables, **CREDENTIALS}.items():
        patch.setenv(name, value)
    connect()
    yield
    ray.shutdown()
    patch.undo()


@pytest.fixture
def recomputed_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh runs use a thread of the test's process: worker processes are slow to start."""
    from lmeraser.proof import recompute

    def executor(count: int, _context: object, **options: Any) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(count, **options)

    monkeypatch.setattr(recompute, "ProcessPoolExecutor", executor)


@pytest.fixture
def lmeraser(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``lmeraser`` in this process; any exception but an exit, so any traceback, reaches the test."""
    monkeypatch.delenv("LMERASER_HASH_KEY", raising=False)
    monkeypatch.delenv("LMERASER_KEYS", raising=False)
    # Do not find another Ray on this machine.
    monkeypatch.setenv("RAY_ADDRESS", "local")

    def run(*arguments: object) -> CommandResult:
        from cluster.cli import app, output

        stdout = sys.stdout
        monkeypatch.setattr(sys, "argv", ["lmeraser", *map(str, arguments)])
        # Results go to the stdout at the time that the module was loaded.
        monkeypatch.setattr(output, "_stdout", stdout)
        try:
            with pytest.raises(SystemExit) as ended:
                app.main()
        finally:
            # A command redirects what libraries print to stderr.
            sys.stdout = stdout
        printed = capsys.readouterr()
        return CommandResult(int(ended.value.code or 0), printed.out, printed.err)

    return run
