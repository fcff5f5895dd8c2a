"""Systems that the tests of several files start from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_system import System


@pytest.fixture
def archived(system_of: Callable[..., System], monkeypatch: pytest.MonkeyPatch) -> System:
    """A store in which s0 to s7 were deleted one after another, with a checkpoint after every other commit."""
    monkeypatch.setattr("actors.checkpoints.MAX_COMMITS", 2)
    return system_of("minute", 24, _delete_eight)


def _delete_eight(system: System) -> None:
    for number in range(8):
        system.delete(f"s{number}")
