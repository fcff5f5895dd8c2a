"""Pauses of the client take no time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lmeraser.client import client as client_module


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    slept: list[float] = []
    monkeypatch.setattr(client_module.time, "sleep", slept.append)
    return slept
