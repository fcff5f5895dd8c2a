"""Progress of long work, reported to the caller."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called again and again while work is done, for example to draw a progress bar."""

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Report progress.

        Args:
            what: what is being done, such as "features"; a new name begins a new piece of work.
            done: how much of it is done.
            total: how much of it there is.
        """


class StepProgress(Protocol):
    """Called after each step of one piece of work whose caller knows what it is."""

    def __call__(self, done: int, total: int, /) -> None:
        """Report progress: the steps done, and the steps in all."""
