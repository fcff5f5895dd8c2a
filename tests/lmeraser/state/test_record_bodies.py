"""Bodies of log records: they survive their JSON, and a malformed one names its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmeraser.errors import LogError
from lmeraser.state.log import Kind, Log
from lmeraser.state.record_bodies import (
    AttemptBody,
    CompletedBody,
    ErasedBody,
    FailedBody,
    RequestBody,
    RetryBody,
    TermBody,
    deletion_of,
    receipt_of,
)
from lmeraser.store import LocalStore

BODIES: list[tuple[Kind, Any, str | None, str | None]] = [
    ("term", TermBody(), None, None),
    ("term", TermBody(base=3), None, None),
    (
        "request",
        RequestBody("d", ("a", "b"), (), ("c",), ("e",), None, "h", "2026-12-24T18:00:00.000+00:00"),
        "d",
        None,
    ),
    (
        "erased",
        ErasedBody("d", ("00", "01"), rows=2, unknown=1, at="t", receipt="receipts/d/1.json"),
        "d",
        "receipts/d/1.json",
    ),
    ("completed", CompletedBody("d", "t", "receipts/d/2.json"), "d", "receipts/d/2.json"),
    ("failed", FailedBody("d", "no memory"), "d", None),
    ("retry", RetryBody("d"), "d", None),
    ("attempt", AttemptBody("00", "leaf", "no memory"), None, None),
]


@pytest.mark.parametrize(("kind", "body", "deletion", "receipt"), BODIES)
def test_a_body_survives_its_record(
    tmp_path: Path, kind: Kind, body: Any, deletion: str | None, receipt: str | None
) -> None:
    record = Log(LocalStore(tmp_path)).append(kind, 1, body.to_body())
    assert type(body).from_record(record) == body
    assert (deletion_of(record), receipt_of(record)) == (deletion, receipt)


def test_a_start_that_continues_from_no_commit_has_an_empty_body() -> None:
    assert TermBody().to_body() == {}


def test_a_request_names_samples_and_subjects_known_or_not() -> None:
    request = RequestBody("d", ("a",), ("b",), ("c",), ("e", "f"), None, "h", None)
    assert (request.hashes(), request.unknown) == (("a", "b", "c", "e", "f"), 3)


@pytest.mark.parametrize("changes", [{"receipt": None}, {"other": 1}], ids=["missing", "unexpected"])
def test_a_malformed_body_is_an_error_that_names_the_record(tmp_path: Path, changes: dict[str, Any]) -> None:
    body = {**CompletedBody("d", "t", "receipts/d/2.json").to_body(), **changes}
    record = Log(LocalStore(tmp_path)).append("completed", 1, {name: value for name, value in body.items() if value})
    with pytest.raises(LogError, match=r"log record 1 \(completed\) is malformed: .*(receipt|other)"):
        CompletedBody.from_record(record)
