"""The record of a commit says what changed, and no more than it must."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any

import pytest

from lmeraser.errors import LogError
from lmeraser.hashing import canonical_json
from lmeraser.state.commit import Commit, Erasure, StoredHeads

HEADS = StoredHeads("heads/a", "00", "heads/b", "01")
FIRST = Commit((), HEADS, {"config": "02"}, number=1)


def read_again(commit: Commit, previous: Commit | None) -> Commit:
    """The commit after its record, as the next one of the log."""
    return Commit.from_body(json.loads(canonical_json(commit.to_body(previous))), commit.number, previous)


@pytest.mark.parametrize(
    "erasure",
    [
        Erasure("d"),
        Erasure("d", ("00", "01"), rows=3),
        Erasure("d", ("00",), ("a",), ("b",), rows=1, remaining=True),
    ],
)
def test_an_erasure_survives_its_record(erasure: Erasure) -> None:
    commit = replace(FIRST.changed((), erasures=(erasure,)), number=2)
    assert read_again(commit, FIRST).erasures == (erasure,)


def test_heads_that_did_not_change_are_those_of_the_commit_before() -> None:
    same = replace(FIRST.changed(()), number=2)
    assert same.to_body(FIRST)["heads"] is None
    assert read_again(same, FIRST).heads == HEADS
    other = replace(same.with_heads(replace(HEADS, heads_object="heads/c", heads_leaf="03")), number=2)
    assert read_again(other, FIRST) == other != same


def test_a_commit_for_a_thousand_requests_has_a_record_of_at_most_100_kb() -> None:
    erasures = tuple(Erasure(uuid.uuid4().hex, ("0123456789abcdef",), rows=1) for _ in range(1000))
    assert len(canonical_json(FIRST.changed((), erasures=erasures).to_body(FIRST))) <= 100_000


@pytest.mark.parametrize(
    "changes",
    [
        {"erasures": [{"rows": 1}]},
        {"erasures": [{"id": "d", "rows of another": 1}]},
        {"erasures": ["d"]},
        {"heads": {"heads_object": "heads/a"}},
        {"previous": None, "heads": None},
    ],
)
def test_a_malformed_body_is_an_error_that_names_the_record(changes: dict[str, Any]) -> None:
    body = {**FIRST.changed(()).to_body(FIRST), **changes}
    with pytest.raises(LogError, match="log record 2 is not a commit"):
        Commit.from_body(body, 2, FIRST)
