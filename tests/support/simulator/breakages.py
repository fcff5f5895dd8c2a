"""What the simulator must find: the code is broken in one place, and a history that goes wrong is known for each.

A history that never failed proves nothing. Each breakage takes one safeguard out of the code under test.
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
    """One safeguard that is taken out.

    Attributes:
        what: what is not done any more.
        where: ``module:function`` or ``module:Class.method``.
        old, new: text of its source, and what stands there instead.
        used_in: another module that has imported the function by name.
    """

    what: str
    where: str
    old: str
    new: str
    used_in: str | None = None


BREAKAGES = (
    Breakage(
        "a sweep asks no fence",
        "actors.coordinator:Coordinator._sweep",
        "self._journal.check)",
        "lambda: None)",
    ),
    Breakage(
        "a coordinator forgets that it was told of its replacement",
        "actors.journal:Journal._refuse",
        "        self.history.replay(foreign)\n",
        "        self.history.replay(foreign)\n        if not foreign:\n            return\n",
    ),
    Breakage(
        "a coordinator that was told of its replacement goes on",
        "actors.coordinator:Coordinator.step",
        "            self._journal.heed()\n",
        "",
    ),
    Breakage(
        "an ingest is told what became of its rows without a look at the log",
        "actors.coordinator:Coordinator._add",
        "        self._journal.check()\n",
        "",
    ),
    Breakage(
        "the lease is not waited out",
        "actors.coordinator:Coordinator._erase",
        "        time.sleep(self._lease_s)\n",
        "",
    ),
    Breakage(
        "nothing is swept before a deletion counts as erased",
        "actors.coordinator:Coordinator._erase",
        "        self._sweep()\n",
        "",
    ),
    Breakage(
        "an ingest goes on while a row of it is erased",
        "actors.prefixes:Prefixes.drop_forbidden",
        "self._open.pop(prefix, None)",
        "pass",
    ),
    Breakage(
        "an ingest heeds only what was erased before it began",
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
        "actors.requests:Intake.resolve",
        "for each in _rows_of(request, index)}",
        "for each in _rows_of(request, index) if sample_hash(self._hash_key, each) in recorded.samples}",
    ),
    Breakage(
        "an owner does not look at the log after it wrote",
        "actors.owner:Owner._put",
        "            check_term(self._store, position)\n",
        "            pass\n",
    ),
    Breakage(
        "what an owner had half written stays where another wrote it",
        "actors.sweep:sweep",
        "store.purge_partial(unfinished, fence)",
        "store.purge_partial(lambda name: name in named or unfinished(name), fence)",
        used_in="actors.coordinator",
    ),
    Breakage(
        "a restore forgets what was asked for after the copy",
        "actors.restoring:_erased_since",
        'record.kind == "request" and',
        'record.kind == "request" and False and',
    ),
    Breakage(
        "a request that its coordinator did not live to record is left",
        "actors.requests:Intake.adopt",
        "self._store.names(REQUESTS)",
        "[]",
    ),
)


@contextmanager
def broken(breakage: Breakage) -> Iterator[None]:
    """The safeguard is gone inside the block."""
    module_name, _, path = breakage.where.partition(":")
    module = importlib.import_module(module_name)
    holder_name, _, name = path.rpartition(".")
    holder: Any = getattr(module, holder_name) if holder_name else module
    # A method's source is indented: under an if it is a whole again, with its text as it stands.
    source = (
        f"if True:\n{inspect.getsource(getattr(holder, name))}"
        if holder_name
        else inspect.getsource(holder.__dict__[name])
    )
    assert breakage.old in source, f"{breakage.where} does not hold {breakage.old!r} any more"
    made: dict[str, Any] = {}
    exec(compile(source.replace(breakage.old, breakage.new), breakage.where, "exec"), vars(module), made)
    with patch.object(holder, name, made[name]):
        if breakage.used_in is None:
            yield
        else:
            with patch.object(importlib.import_module(breakage.used_in), name, made[name]):
                yield
