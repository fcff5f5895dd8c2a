"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from small_system import System, build_system

from lmeraser.store import LocalStore

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


@pytest.fixture
def system_of(built: Callable[[str, int], System], tmp_path: Path) -> Callable[..., System]:
    """A copy of a small system that a test may change."""

    def copy(variant: str = "token", rows: int = 90) -> System:
        original = built(variant, rows)
        folder = tmp_path / f"{variant}-{rows}"
        shutil.copytree(original.store.uri, folder)
        shutil.copytree(original.keys, tmp_path / f"{variant}-{rows}-keys")
        return replace(original, store=LocalStore(folder), keys=tmp_path / f"{variant}-{rows}-keys")

    return copy


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A Ray of this test session's own."""
    import ray

    from cluster.runtime import connect

    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_ADDRESS", "local")
    connect()
    yield
    ray.shutdown()
    patch.undo()
