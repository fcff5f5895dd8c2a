"""Which fail points a thread passes during a piece of work, and when: for metrics and traces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from actors.fail_points import FailPoint, listener


@dataclass
class Passage:
    """A piece of work in one thread.

    Attributes:
        name: what the work is.
        begun_at: when it began, in seconds since 1970.
        begun_s: the same on the clock of the other times, which only grows.
        points: the fail points that were passed, in order, each with its time.
        ended_s: when it ended.
        attributes: what is known of it; never an id of a sample or subject.
        idle: whether there turned out to be nothing to do.
        error: the kind of the exception that ended it.
    """

    name: str
    begun_at: float = field(default_factory=time.time)
    begun_s: float = field(default_factory=time.perf_counter)
    points: list[tuple[FailPoint, float]] = field(default_factory=list)
    ended_s: float = 0.0
    attributes: dict[str, str] = field(default_factory=dict)
    idle: bool = False
    error: str | None = None

    def note(self, point: FailPoint) -> None:
        """Note that a fail point is passed now."""
        self.points.append((point, time.perf_counter()))

    def parts(self) -> Iterator[tuple[FailPoint, float, float]]:
        """Each fail point with the time of the one before it, or of the beginning, and its own."""
        before_s = self.begun_s
        for point, passed_s in self.points:
            yield point, before_s, passed_s
            before_s = passed_s


Observe = Callable[[Passage], None]


@contextmanager
def passage(name: str, observers: tuple[Observe, ...]) -> Iterator[Passage]:
    """Note the fail points that this thread passes in the block; at its end, the observers get them."""
    passed = Passage(name)
    token = listener.set(passed.note)
    try:
        yield passed
    except BaseException as error:
        passed.error = type(error).__name__
        raise
    finally:
        listener.reset(token)
        passed.ended_s = time.perf_counter()
        for observe in observers:
            observe(passed)
