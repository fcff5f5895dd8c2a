"""Records appended to a log without a system behind them."""

from __future__ import annotations

from lmeraser.commit import Commit, Erasure
from lmeraser.log import Log
from lmeraser.store import Store


def append_commit(store: Store, *requests: str) -> int:
    """The number of a new commit of no rows; it erases something where it names requests."""
    log = Log(store)
    log.advance()
    commit = Commit((), "heads/a", "00", fixed_leaves={}, cut_leaf="00", erasures=tuple(map(Erasure, requests)))
    return log.append("commit", 1, commit.to_body()).number


def append_other(store: Store) -> None:
    """A new record that is no commit."""
    log = Log(store)
    log.advance()
    log.append("term", 2, {})
