"""Appending records to a log without a whole system, and reading the receipts that a log names."""

from __future__ import annotations

from lmeraser.state import record_bodies
from lmeraser.state.commit import Commit, Erasure, StoredHeads
from lmeraser.state.log import Log
from lmeraser.store import Store


def append_commit(store: Store, *requests: str) -> int:
    """Append a commit without rows and return its number; it erases something if requests are named."""
    log = Log(store)
    log.advance()
    heads = StoredHeads("heads/a", "00", "heads/b", "00")
    commit = Commit((), heads, fixed_leaves={}, erasures=tuple(map(Erasure, requests)))
    return log.append("commit", 1, commit.to_body()).number


def receipts_of(store: Store) -> dict[str, list[str]]:
    """The receipts that the log names, by the deletion, the newest last."""
    receipts: dict[str, list[str]] = {}
    for record in Log(store).advance():
        for deletion, receipt in zip(
            record_bodies.deletions_of(record), record_bodies.receipts_of(record), strict=False
        ):
            receipts.setdefault(deletion, []).append(receipt)
    return receipts


def append_other(store: Store) -> None:
    """Append a record that is not a commit."""
    log = Log(store)
    log.advance()
    log.append("term", 2, {})
