"""The command line as a function: a command's output and exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple


class CommandResult(NamedTuple):
    """One run of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON value on stdout."""
        return json.loads(self.out)

    def failed(self, code: int, *parts: str) -> None:
        """Check the exit code, that stdout is empty, and that stderr contains these parts and no traceback."""
        assert (self.code, self.out) == (code, ""), self.err
        assert "Traceback" not in self.err
        for part in parts:
            assert part in self.err


Run = Callable[..., CommandResult]
