"""A store with two deletions, for tests of commands that read."""

from __future__ import annotations

from typing import NamedTuple

from small_system import System


class Case(NamedTuple):
    """A system with one deletion that is completed and one that is only accepted."""

    system: System
    completed: str
    accepted: str
