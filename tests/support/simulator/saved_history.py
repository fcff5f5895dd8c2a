"""What is kept of a history that fails once a safeguard of the code is removed."""

from __future__ import annotations

from dataclasses import dataclass

from simulator.breakages import BREAKAGES, Breakage
from simulator.choices import Deviation
from simulator.plan import Plan


@dataclass(frozen=True)
class SavedHistory:
    """A history, and its failure.

    Attributes:
        what: the breakage that it detects.
        kind: the kind of failure with the breakage.
    """

    what: str
    kind: str
    plan: Plan
    deviations: tuple[Deviation, ...] = ()

    @property
    def breakage(self) -> Breakage:
        """The safeguard that is removed."""
        return next(each for each in BREAKAGES if each.what == self.what)
