"""Which owners have a process, and which of them goes when another one needs the room.

A plain class; ``actors.remote.owner_pool`` starts and ends the processes. A resident owner has a process, a passive one
comes back at the next call to it.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class _Use:
    """When an owner was called last, and whether it has tuned and so holds torch and perhaps a part of a GPU."""

    called_s: float
    has_tuned: bool


@dataclass
class Residency:
    """The owners of all clusters.

    Attributes:
        most: how many may be resident at a time.
        most_tuned: how many of them may have tuned.
        idle_s: seconds without a call after which an owner goes, unless it is light and its cluster is a large one.
        clock: seconds that only grow.
        rows: rows by cluster key.
    """

    most: Callable[[], int]
    most_tuned: Callable[[], int]
    idle_s: float
    clock: Callable[[], float] = time.monotonic
    rows: dict[str, int] = field(default_factory=dict)
    _resident: dict[str, _Use] = field(default_factory=dict)

    def expect(self, rows: Mapping[str, int]) -> None:
        """These clusters hold so many rows now."""
        self.rows.update(rows)

    def forget(self, keys: Iterable[str]) -> None:
        """These clusters are no more."""
        for key in keys:
            self.rows.pop(key, None)

    def called(self, key: str, *, to_tune: bool = False) -> None:
        """An owner is called, and so is resident."""
        has_tuned = to_tune or (key in self._resident and self._resident[key].has_tuned)
        self._resident[key] = _Use(self.clock(), has_tuned)

    def ended(self, keys: Iterable[str]) -> None:
        """These owners have no process any more."""
        for key in keys:
            self._resident.pop(key, None)

    @property
    def tuned(self) -> frozenset[str]:
        """Keys of the resident owners that have tuned."""
        return frozenset(key for key, use in self._resident.items() if use.has_tuned)

    @property
    def resident(self) -> frozenset[str]:
        """Keys of the owners that have a process."""
        return frozenset(self._resident)

    def wave(self, keys: Iterable[str], at_work: Collection[str]) -> list[str]:
        """As many of these owners as can be called at a time: resident ones first, then those of large clusters."""
        ordered = sorted(keys, key=lambda key: (key not in self._resident, -self.rows.get(key, 0), key))
        return ordered[: max(1, self.most() - len(set(at_work) - set(ordered)))]

    def leaving(self, coming: Collection[str], at_work: Collection[str], *, to_tune: bool = False) -> list[str]:
        """Owners that have to go before those that come are called: the least recently called, those at work last."""
        others = sorted(
            (key for key in self._resident if key not in coming),
            key=lambda key: (key in at_work, self._resident[key].called_s, key),
        )
        leaving: list[str] = []
        if to_tune:
            over = len(self.tuned | set(coming)) - self.most_tuned()
            leaving = [key for key in others if key in self.tuned][: max(0, over)]
        over = len(self._resident.keys() | set(coming)) - len(leaving) - self.most()
        return leaving + [key for key in others if key not in leaving][: max(0, over)]

    def idle(self, at_work: Collection[str]) -> list[str]:
        """Owners that were not called for long; those that only wait for a call to a large cluster stay."""
        until = self.clock() - self.idle_s
        large = set(self._largest())
        return [
            key
            for key, use in self._resident.items()
            if use.called_s <= until and key not in at_work and (use.has_tuned or key not in large)
        ]

    def next_ahead(self) -> str | None:
        """The owner to start ahead, while there is room: of two rows, the one more likely to be asked for."""
        if len(self._resident) >= self.most():
            return None
        return next((key for key in self._largest() if key not in self._resident), None)

    def _largest(self) -> list[str]:
        """Clusters with the most rows: a row drawn at random is most likely in them."""
        return heapq.nsmallest(self.most(), self.rows, key=lambda key: (-self.rows[key], key))
