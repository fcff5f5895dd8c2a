"""Which owners have a process, and which of them end when another one needs the room (decision 22).

A plain class; ``actors.remote.owner_pool`` starts and ends the processes. A resident owner has a process; a passive one
is started again by the next call to it.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class _Use:
    """When an owner was last called, and whether it has tuned and so holds torch and perhaps a share of a GPU."""

    called_s: float
    has_tuned: bool


@dataclass
class Residency:
    """The owners of all clusters.

    Attributes:
        max_resident: how many may be resident at the same time.
        max_tuned: how many of them may have tuned.
        slots: how many can tune at the same time. If there are no more clusters than that, each owner stays.
        idle_s: seconds without a call after which an owner ends, unless it has not tuned and its cluster is among the
            largest.
        clock: seconds that only grow.
        rows: rows by cluster key.
    """

    max_resident: Callable[[], int]
    max_tuned: Callable[[], int]
    slots: Callable[[], int]
    idle_s: float
    clock: Callable[[], float] = time.monotonic
    rows: dict[str, int] = field(default_factory=dict)
    _resident: dict[str, _Use] = field(default_factory=dict)

    def update_rows(self, rows: Mapping[str, int]) -> None:
        """Set how many rows these clusters hold now."""
        self.rows.update(rows)

    def drop(self, keys: Iterable[str]) -> None:
        """Drop these clusters."""
        for key in keys:
            self.rows.pop(key, None)

    def called(self, key: str, *, to_tune: bool = False) -> None:
        """Note that an owner is called, and so is resident."""
        has_tuned = to_tune or (key in self._resident and self._resident[key].has_tuned)
        self._resident[key] = _Use(self.clock(), has_tuned)

    def ended(self, keys: Iterable[str]) -> None:
        """Note that these owners no longer have a process."""
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

    def all_stay(self) -> bool:
        """Whether every cluster has a slot, so that no owner is ended to make room, or because it is idle."""
        return len(self.rows) <= min(self.slots(), self.max_resident())

    def wave(self, keys: Iterable[str], at_work: Collection[str]) -> list[str]:
        """As many of these owners as can be called together: resident ones first, then those of large clusters."""
        ordered = sorted(keys, key=lambda key: (key not in self._resident, -self.rows.get(key, 0), key))
        return ordered[: max(1, self.max_resident() - len(set(at_work) - set(ordered)))]

    def to_end(self, called: Collection[str], at_work: Collection[str], *, to_tune: bool = False) -> list[str]:
        """Owners to end before these are called: the least recently called first, those at work last."""
        others = sorted(
            (key for key in self._resident if key not in called),
            key=lambda key: (key in at_work, self._resident[key].called_s, key),
        )
        ending: list[str] = []
        if to_tune:
            excess = len(self.tuned | set(called)) - self.max_tuned()
            ending = [key for key in others if key in self.tuned][: max(0, excess)]
        excess = len(self._resident.keys() | set(called)) - len(ending) - self.max_resident()
        return ending + [key for key in others if key not in ending][: max(0, excess)]

    def idle(self, at_work: Collection[str]) -> list[str]:
        """Owners that were not called for ``idle_s``; those of large clusters that have never tuned stay.

        None if all stay.
        """
        if self.all_stay():
            return []
        until = self.clock() - self.idle_s
        large = set(self._largest())
        return [
            key
            for key, use in self._resident.items()
            if use.called_s <= until and key not in at_work and (use.has_tuned or key not in large)
        ]

    def next_ahead(self) -> str | None:
        """The owner to start ahead of its first call while there is room: the one most likely to be needed."""
        if len(self._resident) >= self.max_resident():
            return None
        return next((key for key in self._largest() if key not in self._resident), None)

    def _largest(self) -> list[str]:
        """The clusters with the most rows, since a row drawn at random is most likely to be in one of them."""
        return heapq.nsmallest(self.max_resident(), self.rows, key=lambda key: (-self.rows[key], key))
