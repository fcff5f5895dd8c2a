"""Breakages that the simulator must detect: each removes one safeguard of the code under test.

For each, a history that fails is saved: a history that never failed proves nothing.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch


@dataclass(frozen=True)
class Breakage:
    """A safeguard that is removed.

    Attributes:
        what: a description of the broken behaviour.
        where: ``module:function`` or ``module:Class.method``.
        old, new: text of its source, and its replacement.
    """

    what: str
    where: str
    old: str
    new: str


BREAKAGES = (
    Breakage(
        "a deletion as previewed is accepted while something is being committed",
        "actors.acceptance:Acceptance.delete",
        "self._turns.decision() if bound else nullcontext()",
        "nullcontext()",
    ),
    Breakage(
        "a preview is not compared with the newest commit",
        "actors.requests:Requests.check_fresh",
        "newest != preview_of",
        "False",
    ),
    Breakage(
        "a deletion as previewed is erased together with others",
        "actors.backlog:Backlog.due",
        "return bound[:1]",
        "pass",
    ),
    Breakage(
        "a deletion that waits for an approval is carried out",
        "actors.acceptance:Acceptance.delete",
        ' and deletion.status == "accepted"',
        "",
    ),
    Breakage(
        "a sweep does not call its fence",
        "actors.sweep:Sweeper.sweep",
        "self._journal.check,",
        "lambda: None,",
    ),
    Breakage(
        "a coordinator forgets that it was replaced",
        "actors.journal:Journal._refuse",
        "        self.history.replay(foreign)\n",
        "        self.history.replay(foreign)\n        if not foreign:\n            return\n",
    ),
    Breakage(
        "a coordinator that knows of its replacement continues",
        "actors.coordinator:Coordinator.step",
        "            self._journal.heed()\n",
        "",
    ),
    Breakage(
        "an ingest gets its outcome without a check of the log",
        "actors.additions:Additions.add_next",
        "        self._journal.check()\n",
        "",
    ),
    Breakage(
        "an erasure does not wait for the lease",
        "actors.eraser:Eraser._wait_out_lease",
        "        time.sleep(self._lease_s)\n",
        "",
    ),
    Breakage(
        "nothing is swept before a deletion counts as erased",
        "actors.eraser:Eraser.erase",
        "        self._sweeper.sweep()\n",
        "",
    ),
    Breakage(
        "an ingest continues while one of its rows is erased",
        "actors.prefixes:Prefixes.drop_forbidden",
        "self._open.pop(prefix, None)",
        "pass",
    ),
    Breakage(
        "an ingest respects only erasures before its beginning",
        "actors.ingests:_erased",
        ">= heeded_from for",
        "in range(heeded_from, ingest.begun + 1) for",
    ),
    Breakage(
        "ids that the system did not hold are not remembered",
        "lmeraser.state.record_bodies:RequestBody.hashes",
        ", *self.unknown_samples, *self.unknown_subjects)",
        ")",
    ),
    Breakage(
        "rows are those that the request named when it was accepted",
        "actors.requests:Requests.resolve",
        "index, {*recorded.samples, *recorded.unknown_samples}, {*recorded.subjects, *recorded.unknown_subjects}",
        "index, set(recorded.samples), set()",
    ),
    Breakage(
        "an owner does not check the log after a write",
        "actors.segment_access:SegmentAccess.put",
        "            check_term(self._store, position)\n",
        "            pass\n",
    ),
    Breakage(
        "an embedding continues while a row that it reads is erased",
        "actors.committer:Committer.apply",
        "(job.key in touched and isinstance(job, EmbeddingJob))",
        "False",
    ),
    Breakage(
        "a tuning continues although its coreset lost a row",
        "actors.committer:Committer._is_pointless",
        "        if job.key not in written:\n",
        "        if True:\n",
    ),
    Breakage(
        "a cluster keeps its prompt although its coreset lost a row",
        "actors.rewriting:Rewriting._keeps_prompt",
        " and coreset_leaf == entry.coreset_leaf",
        "",
    ),
    Breakage(
        "the prompted features of an erased row stay in the sums",
        "actors.head_sums:HeadSums.pooled_after",
        "return after - sum_of((each.pooled for each in removed), pooled)",
        "return after",
    ),
    Breakage(
        "a restore forgets requests made after the copy",
        "actors.restoring:_erased_since",
        'if record.kind == "request" else',
        'if record.kind == "request" and False else',
    ),
    Breakage(
        "a part of a deletion counts as all of it",
        "actors.eraser:Eraser._parts",
        "remaining = len(now) < len(clusters)",
        "remaining = False",
    ),
    Breakage(
        "a checkpoint leaves out deletions that are not completed",
        "actors.checkpoints:_is_settled",
        'deletion.status != "completed" or deletion.completed_at is None',
        'deletion.status == "accepted"',
    ),
)


@contextmanager
def broken(breakage: Breakage) -> Iterator[None]:
    """Remove the safeguard inside the block."""
    module_name, _, path = breakage.where.partition(":")
    module = importlib.import_module(module_name)
    holder_name, _, name = path.rpartition(".")
    holder: Any = getattr(module, holder_name) if holder_name else module
    # A method's source is indented: under an if it is a whole again, with unchanged text.
    source = (
        f"if True:\n{inspect.getsource(getattr(holder, name))}"
        if holder_name
        else inspect.getsource(holder.__dict__[name])
    )
    assert breakage.old in source, f"{breakage.where} does not contain {breakage.old!r}"
    made: dict[str, Any] = {}
    exec(compile(source.replace(breakage.old, breakage.new), breakage.where, "exec"), vars(module), made)
    with patch.object(holder, name, made[name]):
        yield
