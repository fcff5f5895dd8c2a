"""Bodies of log records: they survive their JSON, and a malformed one names its record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmeraser.errors import LogError
from lmeraser.state.log import Kind, Log
from lmeraser.state.record_bodies import (
    AttemptBody,
    CompletedBody,
    DeletionBody,
    ErasedBody,
    FailedBody,
    RequestBody,
    RetryBody,
    TermBody,
    body_of,
    deletions_of,
    receipts_of,
)
from lmeraser.store import LocalStore

REQUEST = RequestBody("d", ("a", "b"), (), ("c",), ("e",), None, "h", "2026-12-24T18:00:00.000+00:00")
ERASED = ErasedBody("d", ("00", "01"), rows=2, unknown=1, at="t", receipt="receipts/d/1.json")
COMPLETED = CompletedBody("d", "t", "receipts/d/2.json")
ABOUT_DELETIONS: list[tuple[Kind, DeletionBody, tuple[str, ...]]] = [
    ("request", REQUEST, ()),
    ("erased", ERASED, ("receipts/d/1.json", "receipts/e/1.json")),
    ("completed", COMPLETED, ("receipts/d/2.json", "receipts/e/1.json")),
    ("failed", FailedBody("d", "no memory"), ()),
    ("retry", RetryBody("d"), ()),
]
OTHERS: list[tuple[Kind, Any]] = [
    ("term", TermBody()),
    ("term", TermBody(base=3)),
    ("attempt", AttemptBody("00", "leaf", "no memory")),
]


@pytest.mark.parametrize(("kind", "body", "receipts"), ABOUT_DELETIONS)
def test_a_record_says_what_happened_to_each_of_its_deletions(
    tmp_path: Path, kind: Kind, body: DeletionBody, receipts: tuple[str, ...]
) -> None:
    changes = {"receipt": "receipts/e/1.json"} if receipts else {}
    other = replace(body, id="e", **changes)
    record = Log(LocalStore(tmp_path)).append(kind, 1, body_of([body, other]))
    assert type(body).all_from(record) == (body, other)
    assert (deletions_of(record), receipts_of(record)) == (("d", "e"), receipts)


@pytest.mark.parametrize(("kind", "body"), OTHERS)
def test_a_record_about_no_deletion_has_one_body(tmp_path: Path, kind: Kind, body: Any) -> None:
    record = Log(LocalStore(tmp_path)).append(kind, 1, body.to_body())
    assert type(body).from_record(record) == body
    assert (deletions_of(record), receipts_of(record)) == ((), ())


def test_a_start_that_continues_from_no_commit_has_an_empty_body() -> None:
    assert TermBody().to_body() == {}


def test_a_request_names_samples_and_subjects_known_or_not() -> None:
    request = RequestBody("d", ("a",), ("b",), ("c",), ("e", "f"), None, "h", None)
    assert (request.hashes(), request.unknown) == (("a", "b", "c", "e", "f"), 3)


@pytest.mark.parametrize(
    "body",
    [
        {"deletions": [{name: value for name, value in COMPLETED.to_body().items() if name != "receipt"}]},
        {"deletions": [{**COMPLETED.to_body(), "receipt of another": 1}]},
        {"deletions": ["the receipt's id"]},
        {"no list of deletions, and no receipt": 1},
    ],
)
def test_a_malformed_body_is_an_error_that_names_the_record(tmp_path: Path, body: dict[str, Any]) -> None:
    record = Log(LocalStore(tmp_path)).append("completed", 1, body)
    with pytest.raises(LogError, match=r"log record 1 \(completed\) is malformed: "):
        CompletedBody.all_from(record)
