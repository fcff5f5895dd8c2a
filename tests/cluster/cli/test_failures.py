"""An exception that crossed Ray is reported by its cause, not by the first line of a remote traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import ray
from command_line import Run

from cluster.cli import target
from lmeraser.errors import ConfigError, DataError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]

RAISED: dict[str, Callable[[], Exception]] = {
    "library": lambda: RuntimeError("Failed to decode image:\nMissing item"),
    "empty": lambda: MemoryError(),
    "ours": lambda: DataError("row 7 has the label 'x'"),
    "usage": lambda: ConfigError("heads.cells is 0"),
}


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("library", 1, "error: Ray: RuntimeError: Failed to decode image:\nMissing item"),
        ("empty", 1, "error: Ray: MemoryError"),
        ("ours", 1, "error: row 7 has the label 'x'"),
        ("usage", 2, "error: heads.cells is 0"),
    ],
)
@pytest.mark.parametrize("processes", [1, 2])
def test_an_exception_from_ray_is_reported_by_its_cause(
    lmeraser: Run, monkeypatch: pytest.MonkeyPatch, what: str, code: int, message: str, processes: int
) -> None:
    error = RAISED[what]()

    def raises(more: int) -> None:
        if more:
            ray.get(ray.remote(raises).remote(more - 1))
        raise error

    monkeypatch.setattr(target, "find_store", lambda *_: raises(processes))
    ran = lmeraser("tune", "--store", "nowhere")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err == f"{message}\n"


def test_the_reason_why_an_actor_did_not_start_is_reported(lmeraser: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self) -> None:
            raise ValueError("no such device: cuda:7")

        def call(self) -> None:
            """Never reached."""

    def begin(*_: Any) -> None:
        ray.get(ray.remote(Broken).remote().call.remote())

    monkeypatch.setattr(target, "find_store", begin)
    ran = lmeraser("tune", "--store", "nowhere")
    ran.failed(
        1, "The actor died because of an error raised in its creation task", "ValueError: no such device: cuda:7"
    )
    assert len(ran.err.splitlines()) == 1
