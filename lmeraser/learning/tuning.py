"""The deterministic program that tunes one cluster's prompt (design 4.3).

It sees the cluster's rows sorted by sample id, the configuration, the seed and public artifacts, and nothing else:
neither how many rows other clusters hold, nor in which order rows were added.

Legend: N rows, B rows of a batch, P pixels per side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lmeraser.config import StateConfig
from lmeraser.errors import TuningCancelledError
from lmeraser.hashing import draw
from lmeraser.learning.backbone import Backbone, Features
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.objective import ClosedForm, LinearHead, Objective
from lmeraser.learning.prompts import LowerPart, prompt_kind
from lmeraser.learning.schedule import half_cosine
from lmeraser.progress import StepProgress


@dataclass(frozen=True)
class TuningRows:
    """What a tuning sees of a cluster's rows.

    Attributes:
        sample_ids: N ids, in any order.
        images_N3PP: uint8.
        labels_N: int64, index into the declared labels.
    """

    sample_ids: tuple[str, ...]
    images_N3PP: np.ndarray
    labels_N: np.ndarray


def tune_prompt(
    backbone: Backbone,
    config: StateConfig,
    rows: TuningRows,
    *,
    report: StepProgress | None = None,
    cancelled: Callable[[], bool] | None = None,
    start: Tensor | None = None,
    feature_map: FeatureMap | None = None,
) -> Tensor:
    """Tune a prompt on rows, for the closed-form heads or for a linear head.

    Args:
        backbone: frozen.
        config: its prompt, tuning and seed are used.
        rows: at least one.
        report: called after each step with the number of steps done and the total.
        cancelled: called before each step; a true answer ends the tuning.
        start: the prompt to start from; that of the prompt kind when absent.
        feature_map: of the closed-form heads, which the prompt is tuned for; when absent, a linear head is tuned
            together with the prompt and discarded (:mod:`lmeraser.learning.objective`).

    Returns:
        The prompt, float32, on the CPU.

    Raises:
        TuningCancelledError: when ``cancelled`` gave true.
    """
    with deterministic():
        return _Tuning(backbone, config, rows, start, feature_map).run(report, cancelled)


class _Tuning:
    def __init__(
        self,
        backbone: Backbone,
        config: StateConfig,
        rows: TuningRows,
        start: Tensor | None,
        feature_map: FeatureMap | None,
    ) -> None:
        order = sorted(range(len(rows.sample_ids)), key=rows.sample_ids.__getitem__)
        self._ids = [rows.sample_ids[row] for row in order]
        self._images_N3PP = torch.from_numpy(rows.images_N3PP[order])
        self._labels_N = rows.labels_N[order]
        self._backbone = backbone
        self._config = config.tuning
        self._seed = config.seed
        self._kind = prompt_kind(config.prompt, backbone)
        self._lower = self._lower_part() if self._kind.enters_at > 0 else None
        begin = self._kind.start(config.seed) if start is None else start.clone()
        self._prompt = nn.Parameter(begin.to(backbone.device))
        self._objective: Objective = (
            LinearHead(config, self._ids)
            if feature_map is None
            else ClosedForm(config, self._ids, self._labels_N, feature_map, backbone.device)
        )
        self._steps = self._config.epochs * math.ceil(len(order) / self._config.batch_rows)

    def run(self, report: StepProgress | None, cancelled: Callable[[], bool] | None) -> Tensor:
        optimiser: torch.optim.Optimizer | None = None
        step = 0
        for epoch in range(self._config.epochs):
            for batch_B in self._objective.batches(epoch):
                if cancelled is not None and cancelled():
                    raise TuningCancelledError(f"the tuning was cancelled after {step} of {self._steps} steps")
                loss = self._objective.loss(self._prompted(self._filled(batch_B), epoch), self._labels_N[batch_B])
                if optimiser is None:
                    optimiser = self._optimiser()
                for group in optimiser.param_groups:
                    group["lr"] = group["peak"] * half_cosine(step, self._steps)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                step += 1
                if report is not None:
                    report(step, self._steps)
        return self._prompt.detach().cpu()

    def _filled(self, batch_B: np.ndarray) -> np.ndarray:
        """The batch at its full size: the last batch of an epoch is filled up with its first row."""
        return np.concatenate([batch_B, np.repeat(batch_B[:1], self._config.batch_rows - len(batch_B))])

    def _prompted(self, batch_B: np.ndarray, epoch: int) -> Features:
        prompts_B = self._prompt.expand(len(batch_B), *self._prompt.shape)
        if self._lower is not None:
            return self._lower.rows(torch.from_numpy(batch_B)).features(prompts_B)
        images_B3PP = self._images_N3PP[torch.from_numpy(batch_B)]
        if self._config.shift_px or self._config.flip:
            images_B3PP = torch.stack(
                [self._augmented(image, self._ids[row], epoch) for image, row in zip(images_B3PP, batch_B, strict=True)]
            )
        return self._kind.features(self._backbone.normalise(images_B3PP), prompts_B)

    def _augmented(self, image_3PP: Tensor, sample_id: str, epoch: int) -> Tensor:
        drawn = draw(self._seed, "augment", epoch, sample_id)
        margin = self._config.shift_px
        down, right = (int.from_bytes(drawn[start : start + 8], "big") % (2 * margin + 1) for start in (0, 8))
        size = image_3PP.shape[-1]
        padded = nn.functional.pad(image_3PP, (margin, margin, margin, margin))
        shifted = padded[:, down : down + size, right : right + size]
        return shifted.flip(-1) if self._config.flip and drawn[16] & 1 else shifted

    def _lower_part(self) -> LowerPart:
        """All rows at the point where the prompt enters, computed once for all epochs."""
        size = self._config.batch_rows
        with torch.no_grad():
            first, *others = (
                self._kind.lower(self._backbone.normalise(self._images_N3PP[start : start + size]))
                for start in range(0, len(self._images_N3PP), size)
            )
        return first.joined(others)

    def _optimiser(self) -> torch.optim.Optimizer:
        groups = [{"params": [self._prompt], "peak": self._config.learning_rate}, *self._objective.groups()]
        return torch.optim.AdamW(groups, lr=0.0, weight_decay=self._config.weight_decay, foreach=False)
