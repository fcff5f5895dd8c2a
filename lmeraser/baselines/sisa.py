"""SISA: sharded, isolated, sliced and aggregated training (Bourtoule et al. 2021, arXiv 1912.03817, section IV).

A row belongs to a shard and to one of its slices by a hash of its sample id, so neither depends on other rows. The
prompt of a shard is tuned on slice 1, then on slices 1 and 2, and so on; the prompt before each new slice is kept as a
checkpoint. A deletion goes back to the checkpoint before the slice that held the row. Each shard has a closed-form head
over its own rows, and the shards' probabilities are averaged.

So that tuning all slices costs as much as ``epochs`` over the shard, each of the R stages runs
``e = 2 · epochs / (R + 1)`` epochs (section VI), rounded, and at least one. Expected cost of deleting one of n rows, in
row-passes: the row is in slice r, uniform in 1 to R, and stages r to R are repeated, stage t over ``t · n / (S R)``
rows. That is ``2 · e · n / (S R) · (R + 1)(2R + 1) / 6``, half forward and half backward, and ``n / S`` forward for the
shard's head.

Legend: N rows, R slices, P pixels per side, C classes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from lmeraser.baselines.part import Part, rows_at, rows_without, tuning_row_passes
from lmeraser.config import ServingConfig
from lmeraser.hashing import draw_uint64
from lmeraser.learning.heads import probabilities
from lmeraser.learning.tuning import TuningRows, tune_prompt
from lmeraser.state.pipeline import Pipeline


@dataclass(frozen=True)
class Shard:
    """One shard: its rows, the prompt after each stage, and its head.

    Attributes:
        rows: at least one.
        slice_of: the slice of each row, by sample id.
        checkpoints: the prompt after each slice; None as long as no slice had a row.
        part: the last prompt and the head.
    """

    rows: TuningRows
    slice_of: Mapping[str, int]
    checkpoints: tuple[Tensor | None, ...]
    part: Part


@dataclass(frozen=True)
class Sisa:
    """Independent shards.

    Attributes:
        pipeline: backbone, prompt, tuning and projection; its partition is not used.
        slices: R, the number of slices of each shard, and of stages of its tuning.
        shards: None for a shard without rows.
    """

    pipeline: Pipeline
    slices: int
    shards: tuple[Shard | None, ...]

    @staticmethod
    def fit(pipeline: Pipeline, rows: TuningRows, shards: int, slices: int) -> Sisa:
        """Tune every shard.

        Args:
            pipeline: over public artifacts.
            rows: at least one.
            shards: S, at least 1.
            slices: R, at least 1.
        """
        shard_N = np.array([_drawn_index(pipeline, "shard", name, shards) for name in rows.sample_ids])
        parts = [rows_at(rows, np.flatnonzero(shard_N == shard)) for shard in range(shards)]
        return Sisa(pipeline, slices, tuple(_tune_shard(pipeline, slices, part, ()) for part in parts))

    def without(self, sample_ids: Collection[str]) -> Sisa:
        """Resume each shard that held one of these rows from its last checkpoint before any of them."""
        return replace(self, shards=tuple(self._shard_without(shard, frozenset(sample_ids)) for shard in self.shards))

    def _shard_without(self, shard: Shard | None, sample_ids: frozenset[str]) -> Shard | None:
        removed = [name for name in sample_ids if shard is not None and name in shard.slice_of]
        if shard is None or not removed:
            return shard
        first = min(shard.slice_of[name] for name in removed)
        return _tune_shard(self.pipeline, self.slices, rows_without(shard.rows, removed), shard.checkpoints[:first])

    def row_passes_of(self, sample_ids: Collection[str]) -> float:
        """Row-passes of this deletion, forward and backward together, without rows that fill up a batch."""
        return sum(self._row_passes_of(shard, frozenset(sample_ids)) for shard in self.shards if shard is not None)

    def _row_passes_of(self, shard: Shard, sample_ids: frozenset[str]) -> float:
        touched = [shard.slice_of[name] for name in sample_ids if name in shard.slice_of]
        if not touched:
            return 0.0
        remaining_R = np.bincount(list(shard.slice_of.values()), minlength=self.slices)
        remaining_R -= np.bincount(touched, minlength=self.slices)
        epochs = stage_epochs(self.pipeline.config.tuning.epochs, self.slices)
        stages = np.cumsum(remaining_R)[min(touched) :].tolist()
        return sum(tuning_row_passes(self.pipeline, rows, epochs) for rows in stages) + int(remaining_R.sum())

    def scores(self, images_N3PP: np.ndarray) -> np.ndarray:
        """The mean of the shards' probabilities, float64 [N, C], of uint8 images."""
        temperature = ServingConfig().temperature
        mean_NC: np.ndarray = np.mean(
            [
                probabilities(shard.part.scores(self.pipeline, images_N3PP), temperature)
                for shard in self.shards
                if shard is not None
            ],
            axis=0,
        )
        return mean_NC


def stage_epochs(epochs: int, slices: int) -> int:
    """Epochs of one stage such that all stages together cost about as much as ``epochs`` over the shard."""
    return max(1, round(2 * epochs / (slices + 1)))


def _tune_shard(pipeline: Pipeline, slices: int, rows: TuningRows, kept: Sequence[Tensor | None]) -> Shard | None:
    """A shard, tuned from its kept checkpoints on."""
    if not rows.sample_ids:
        return None
    slice_of = {name: _drawn_index(pipeline, "slice", name, slices) for name in rows.sample_ids}
    slice_N = np.array(list(slice_of.values()))
    tuning = replace(pipeline.config.tuning, epochs=stage_epochs(pipeline.config.tuning.epochs, slices))
    checkpoints = list(kept)
    for stage in range(len(kept), slices):
        prompt = checkpoints[-1] if checkpoints else None
        seen = rows_at(rows, np.flatnonzero(slice_N <= stage))
        if seen.sample_ids:
            prompt = tune_prompt(pipeline.backbone, replace(pipeline.config, tuning=tuning), seen, start=prompt)
        checkpoints.append(prompt)
    last = checkpoints[-1]
    assert last is not None
    return Shard(rows, slice_of, tuple(checkpoints), Part.of(pipeline, last, rows))


def _drawn_index(pipeline: Pipeline, purpose: str, sample_id: str, count: int) -> int:
    return draw_uint64(pipeline.config.seed, "sisa", purpose, sample_id) % count
