"""The command line as a function: what a command printed, and how it exited."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple


class Ran(NamedTuple):
    """One run of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON value on stdout."""
        return json.loads(self.out)

    def failed(self, code: int, *said: str) -> None:
        """Check the exit code, that stdout is empty, and that stderr says these things without a traceback."""
        assert (self.code, self.out) == (code, ""), self.err
        assert "Traceback" not in self.err
        for part in said:
            assert part in self.err


Run = Callable[..., Ran]
