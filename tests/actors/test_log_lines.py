"""What the coordinator logs of a deletion: its id at every change of its status, and no id of a row or subject."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

import pytest
from small_system import System

from lmeraser.deletion import DeletionRequest

SystemOf = Callable[..., System]


def test_every_change_of_a_deletions_status_is_a_line_with_its_id(
    system_of: SystemOf, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator = system_of("minute", 24).coordinator()
    with caplog.at_level(logging.INFO):
        deletion = coordinator.delete(DeletionRequest(("s3", "nobody"), ("u4",), idempotency_key="ticket"))
        while not coordinator.idle():
            coordinator.step()
    lines = [line for line in caplog.messages if deletion.id in line]
    assert [re.sub(r"\d+$", "N", line.partition(": ")[2]) for line in lines] == [
        f"{status}, log record N" for status in ("accepted", "erased", "completed")
    ]
    assert not re.search(r"\b(s3|u4|nobody|ticket)\b", caplog.text)
