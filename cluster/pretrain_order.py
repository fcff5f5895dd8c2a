"""In which order the workers of a training read the public rows: by seed and sweep, whatever Ray schedules when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lmeraser.hashing import draw_uint64


@dataclass(frozen=True)
class Position:
    """How far a worker has read.

    Attributes:
        sweep: how many times it has read all of its rows.
        window: number of the window in the sweep.
        row: number of the next row of the window, after shuffling.
    """

    sweep: int = 0
    window: int = 0
    row: int = 0


@dataclass(frozen=True)
class RowOrder:
    """The order of one worker's rows: endless, because epochs end by the number of steps.

    In each sweep, all workers draw the same permutation of the source's pieces and take every n-th. Consecutive pieces
    are a window, and the rows of a window are shuffled. So each row comes once in a sweep, from one worker.

    Attributes:
        seed: of the configuration.
        piece_rows: about how many rows each piece has.
        rank: number of this worker.
        workers: how many there are.
        window_rows: rows in a window, at least, but in the last of a sweep.
    """

    seed: int
    piece_rows: tuple[int, ...]
    rank: int
    workers: int
    window_rows: int

    def windows(self, sweep: int) -> tuple[tuple[int, ...], ...]:
        """The numbers of the pieces in each window of a sweep."""
        return _windows(self, sweep)

    def following(self, begin: Position) -> Iterator[Position]:
        """The position itself, and then the beginnings of all windows after it, without end."""
        position = begin
        while True:
            if position.window < len(self.windows(position.sweep)):
                yield position
                position = Position(position.sweep, position.window + 1)
            else:
                position = Position(position.sweep + 1)

    def shuffled(self, position: Position, rows: int) -> np.ndarray:
        """In which order the rows of a window are read, int64 [rows], from the position on."""
        return self._generator("rows", position.sweep, position.window).permutation(rows)[position.row :]

    def row_seed(self, position: Position, row: int) -> int:
        """Seeds what is random about one row of a window; ``row`` is its number after shuffling."""
        return draw_uint64(self.seed, "augmentation", self.rank, position.sweep, position.window, row)

    def _generator(self, *parts: str | int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(draw_uint64(self.seed, *parts)))


@lru_cache(maxsize=2)
def _windows(order: RowOrder, sweep: int) -> tuple[tuple[int, ...], ...]:
    pieces = order._generator("pieces", sweep).permutation(len(order.piece_rows))[order.rank :: order.workers]
    windows: list[tuple[int, ...]] = []
    window: list[int] = []
    rows = 0
    for piece in pieces.tolist():
        window.append(piece)
        rows += order.piece_rows[piece]
        if rows >= order.window_rows:
            windows.append(tuple(window))
            window, rows = [], 0
    return (*windows, tuple(window)) if window else tuple(windows)
