"""Services end with the test that makes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def services_end() -> Iterator[None]:
    """End the replicas that the test makes: their polls would slow every later test of the process."""
    # Imports PyTorch, which pytest-xdist's main process does without.
    from direct_service import ENDINGS

    before = len(ENDINGS)
    yield
    while len(ENDINGS) > before:
        ENDINGS.pop()()
