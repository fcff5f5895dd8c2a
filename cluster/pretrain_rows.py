"""The rows of a training as batches of pixels: decoded by actors of Ray Data, in an order that is known before.

Legend: B rows of a batch or block, P pixels per side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any

import numpy as np
import ray
import ray.data

from cluster.pretrain_order import Position, RowOrder
from lmeraser.config import ImagesConfig, SourceConfig
from lmeraser.data import Sample, Source, open_public
from lmeraser.data.sample import Part
from lmeraser.errors import DataError
from lmeraser.learning.augmentation import Augmentation

_PIECES_PER_WORKER = 16
# Of pixels that a decoder gives at once, and that are on the way from it to the worker.
_BLOCK_BYTES = 4 << 20
_WINDOWS_PER_PIPELINE = 64

Block = dict[str, np.ndarray]


@dataclass(frozen=True)
class TrainingRows:
    """Rows with labels, and how each process reads a piece of them.

    Attributes:
        source: where they are, with an absolute path.
        images: which images are accepted.
        labels: the label names, in the order of their numbers.
        parts: of the source.
        slices: into how many pieces each of them is cut, where there are fewer than workers need.
    """

    source: SourceConfig
    images: ImagesConfig
    labels: tuple[str, ...]
    parts: tuple[Part, ...]
    slices: int

    @staticmethod
    def of(source: SourceConfig, images: ImagesConfig, workers: int, labels: tuple[str, ...] = ()) -> TrainingRows:
        """Open a source.

        Args:
            source: where the rows are, with an absolute path.
            images: which images are accepted.
            workers: for how many workers there must be pieces.
            labels: the label names; those of the source when empty.

        Raises:
            DataError: when it cannot be read, holds no rows, or declares no label names.
        """
        opened = open_public(source, images)
        parts = tuple(opened.parts())
        if not any(part.rows for part in parts):
            raise DataError(f"the source of kind {source.kind} {source.path} holds no rows")
        slices = -(-_PIECES_PER_WORKER * workers // len(parts))
        return TrainingRows(source, images, labels or opened.labels, parts, slices)

    @cached_property
    def piece_rows(self) -> tuple[int, ...]:
        """How many rows each piece has, about."""
        bounds = (self._bounds(piece) for piece in range(len(self.parts) * self.slices))
        return tuple(stop - start for start, stop in bounds)

    @property
    def count(self) -> int:
        """How many rows there are, about."""
        return sum(self.piece_rows)

    def read(self, piece: int) -> Iterator[Sample]:
        """The rows of one piece."""
        start, stop = self._bounds(piece)
        samples = _opened(self.source, self.images).read(self.parts[piece // self.slices], self.labels)
        # A part may have more rows than was known before it was read.
        is_last = (piece + 1) % self.slices == 0
        return islice(samples, start, None if is_last else stop)

    def _bounds(self, piece: int) -> tuple[int, int]:
        """The first row of a piece in its part, and the one after its last."""
        rows, number = self.parts[piece // self.slices].rows, piece % self.slices
        return rows * number // self.slices, rows * (number + 1) // self.slices


@dataclass(frozen=True)
class Batch:
    """Rows of one step.

    Attributes:
        images_B3PP: uint8.
        labels_B: int64.
        end: where the next batch begins.
    """

    images_B3PP: np.ndarray
    labels_B: np.ndarray
    end: Position


@dataclass(frozen=True)
class RowBatches:
    """Batches of one worker.

    Attributes:
        rows: all rows.
        order: in which this worker reads them.
        augmentation: what happens to an image.
        batch_rows: B.
        decoders: how many processes decode.
    """

    rows: TrainingRows
    order: RowOrder
    augmentation: Augmentation
    batch_rows: int
    decoders: int

    def beginning_at(self, begin: Position, batches: int) -> Iterator[Batch]:
        """So many batches; no window is decoded that none of them needs."""
        return islice(self._of(self._blocks(self.order.following(begin), batches * self.batch_rows)), batches)

    def one_sweep(self) -> Iterator[Batch]:
        """All rows of this worker once; the last batch may be smaller."""
        windows = (Position(0, window) for window in range(len(self.order.windows(0))))
        return self._of(self._blocks(windows, self.rows.count))

    def _of(self, blocks: Iterable[Block]) -> Iterator[Batch]:
        """Blocks as batches; what remains at the end is one too."""
        held: Block | None = None
        for block in blocks:
            # Copied, so that Ray can take the memory of the block back.
            held = {
                name: np.concatenate([values] if held is None else [held[name], values])
                for name, values in block.items()
            }
            while len(held["label"]) >= self.batch_rows:
                yield _batch(held, self.batch_rows)
                held = {name: values[self.batch_rows :] for name, values in held.items()}
        if held is not None and len(held["label"]) > 0:
            yield _batch(held, len(held["label"]))

    def _blocks(self, windows: Iterator[Position], rows: int) -> Iterator[Block]:
        """The decoded rows of windows, in their order: at least so many rows, where there are so many."""
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.target_max_block_size = _BLOCK_BYTES
        context.execution_options.preserve_order = True
        shared = ray.put(self)
        while rows > 0 and (some := self._next_windows(windows, rows)):
            items = [{"sweep": each.sweep, "window": each.window, "row": each.row} for each in some]
            pipeline = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
                _Decoder,
                fn_constructor_args=(shared,),
                batch_size=1,
                # None: on a small machine, the workers have all of them.
                num_cpus=0,
                concurrency=self.decoders,
            )
            for block in pipeline.iter_batches(batch_size=None, prefetch_batches=2, batch_format="numpy"):
                rows -= len(block["label"])
                yield block

    def _next_windows(self, windows: Iterator[Position], rows: int) -> list[Position]:
        """The windows of the next pipeline: about so many rows, and at most the windows of a sweep."""
        most = max(_WINDOWS_PER_PIPELINE, len(self.order.windows(0)))
        some: list[Position] = []
        while rows > 0 and len(some) < most and (position := next(windows, None)) is not None:
            some.append(position)
            pieces = self.order.windows(position.sweep)[position.window]
            rows -= sum(self.rows.piece_rows[piece] for piece in pieces) - position.row
        return some


class _Decoder:
    """An actor of Ray Data: the rows of one window after the other. Tasks would each need a new process."""

    def __init__(self, shared: Any) -> None:
        self._batches: RowBatches = ray.get(shared)

    def __call__(self, window: Block) -> Iterator[Block]:
        position = Position(*(int(window[name][0]) for name in ("sweep", "window", "row")))
        return decoded_window(self._batches, position)


def decoded_window(batches: RowBatches, begin: Position) -> Iterator[Block]:
    """The rows of one window from a position on, shuffled and decoded, a few at a time."""
    order, rows = batches.order, batches.rows
    samples = [sample for piece in order.windows(begin.sweep)[begin.window] for sample in rows.read(piece)]
    shuffled = order.shuffled(begin, len(samples)).tolist()
    block: list[tuple[int, np.ndarray, int]] = []
    for row, number in enumerate(shuffled, start=begin.row):
        image = batches.augmentation.decoded(samples[number].image, order.row_seed(begin, row))
        block.append((row, image, samples[number].label))
        if len(block) * image.nbytes >= _BLOCK_BYTES or row + 1 == len(samples):
            yield _block(begin, block)
            block = []


def _block(position: Position, rows: list[tuple[int, np.ndarray, int]]) -> Block:
    numbers, images, labels = zip(*rows, strict=True)
    return {
        "image": np.stack(images),
        "label": np.array(labels, np.int64),
        "sweep": np.full(len(rows), position.sweep),
        "window": np.full(len(rows), position.window),
        "row": np.array(numbers, np.int64),
    }


def _batch(held: Block, rows: int) -> Batch:
    last = [int(held[name][rows - 1]) for name in ("sweep", "window", "row")]
    return Batch(held["image"][:rows], held["label"][:rows], Position(last[0], last[1], last[2] + 1))


@lru_cache(maxsize=2)
def _opened(source: SourceConfig, images: ImagesConfig) -> Source:
    """Opening reads the footers of all files, so a process does it once."""
    return open_public(source, images)
