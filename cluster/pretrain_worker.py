"""One worker of a training: steps on its batches, validation, checkpoints.

Legend: N rows, B rows of a batch, P pixels per side, C classes.
"""

from __future__ import annotations

import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import ray.train
import ray.train.torch
import torch
from ray.util.queue import Queue
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from cluster.pretrain_order import Position, RowOrder
from cluster.pretrain_rows import Batch, RowBatches, TrainingRows
from lmeraser.config import Config, PretrainConfig
from lmeraser.hashing import draw_uint64
from lmeraser.learning.augmentation import Augmentation
from lmeraser.learning.backbone import create_model, normalisation

CHECKPOINT = "checkpoint.pt"
# Steps between two looks at the clock, at which all workers meet, and between two reports.
_LOOK_STEPS = 20


@dataclass(frozen=True)
class Training:
    """What each worker is told.

    Attributes:
        config: the configuration; its public and validation sources have absolute paths.
        rows: the public rows.
        validation: rows on which accuracy is measured; None for no validation.
        progress: takes in :class:`TrainingReport` from the first worker.
    """

    config: Config
    rows: TrainingRows
    validation: TrainingRows | None
    progress: Queue


@dataclass(frozen=True)
class TrainingReport:
    """How far a training is.

    Attributes:
        steps: steps that were done.
        epochs: epochs that were done, with a part of one.
        figures: mean loss, learning rate, images a second and, after an epoch, accuracy on the validation rows.
    """

    steps: int
    epochs: float
    figures: dict[str, float]


class TrainingFigures(Protocol):
    """Takes in reports, for example to draw curves."""

    def add(self, step: TrainingReport) -> None:
        """Take in one report."""


def train(arguments: dict[str, Any]) -> None:
    """Run one worker of Ray Train; ``arguments`` has a :class:`Training`."""
    _Worker(arguments["training"]).run()


class _Worker:
    """A worker's model, optimiser and place among the others."""

    def __init__(self, training: Training) -> None:
        context = ray.train.get_context()
        self._training = training
        self._config: PretrainConfig = training.config.pretrain
        self._rank, self._workers = context.get_world_rank(), context.get_world_size()
        torch.set_num_threads(1)
        torch.manual_seed(training.config.seed)
        classes = len(training.rows.labels)
        self._model = create_model(training.config.backbone, classes=classes)
        self._mean, self._std = normalisation(self._model)
        self._device = ray.train.torch.get_device()
        strategy = "ddp" if self._workers > 1 else None
        self._wrapped = ray.train.torch.prepare_model(self._model, parallel_strategy=strategy)
        # With fewer workers a step sees fewer rows.
        rate = self._config.learning_rate * self._workers / self._config.max_workers
        self._optimiser = create_optimizer_v2(
            self._model, opt=self._config.optimiser, lr=rate, weight_decay=self._config.weight_decay
        )
        decay = self._config.ema_decay
        self._average = ModelEmaV3(self._model, decay=decay, use_warmup=True) if decay else None
        self._epoch_steps = max(1, training.rows.count // (self._workers * self._config.batch_rows))
        warmup = min(self._config.warmup_steps, self._epoch_steps * self._config.epochs - 1)
        self._schedule = CosineLRScheduler(
            self._optimiser,
            t_initial=self._epoch_steps * self._config.epochs,
            warmup_t=warmup,
            # The first step must not be lost.
            warmup_lr_init=rate / max(1, warmup),
            t_in_epochs=False,
        )
        self._loss = _Loss(self._config, classes, self._device)
        self._step = 0
        self._position = Position()
        self._saved_at = time.monotonic()

    def run(self) -> None:
        self._restore()
        self._tell(self._step, {})
        steps = self._epoch_steps * self._config.epochs - self._step
        batches = self._batches(self._training.rows, self._config).beginning_at(self._position, steps)
        total = torch.zeros((), device=self._device)
        counted, since = 0, time.monotonic()
        self._model.train()
        for batch in batches:
            total += self._train_on(batch)
            counted += 1
            self._step += 1
            self._position = batch.end
            ends_epoch = self._step % self._epoch_steps == 0
            if not ends_epoch and self._step % _LOOK_STEPS:
                continue
            seconds, images = time.monotonic() - since, counted * self._config.batch_rows * self._workers
            figures = {
                "loss": float(total) / counted,
                "learning_rate": self._optimiser.param_groups[0]["lr"],
                "images_per_s": images / seconds,
            }
            if ends_epoch and self._training.validation is not None:
                figures["accuracy"] = self._accuracy(self._training.validation)
            self._report(figures)
            total.zero_()
            counted, since = 0, time.monotonic()

    def _train_on(self, batch: Batch) -> Tensor:
        """One step; returns the loss."""
        # What is random in a step follows from its number: a run that is continued draws what it would have drawn.
        seed = draw_uint64(self._training.config.seed, "step", self._step, self._rank)
        torch.manual_seed(seed)
        # timm draws from these two.
        random.seed(seed)
        np.random.seed(seed % 2**32)
        self._schedule.step_update(self._step)
        pixels_B3PP, labels_B = self._pixels(batch)
        with torch.autocast(
            self._device.type, torch.bfloat16, enabled=self._config.bfloat16 and self._device.type == "cuda"
        ):
            loss = self._loss(self._wrapped, pixels_B3PP, labels_B)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        if self._average is not None:
            self._average.update(self._model, step=self._step)
        return loss.detach()

    def _pixels(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Normalised pixels, float32, and labels, on the device."""
        images_B3PP, labels_B = torch.from_numpy(batch.images_B3PP), torch.from_numpy(batch.labels_B)
        if self._device.type == "cuda":
            images_B3PP, labels_B = images_B3PP.pin_memory(), labels_B.pin_memory()
        pixels_B3PP = images_B3PP.to(self._device, non_blocking=True).float() / 255
        pixels_B3PP = (pixels_B3PP - self._mean.to(self._device)) / self._std.to(self._device)
        return pixels_B3PP, labels_B.to(self._device, non_blocking=True)

    def _accuracy(self, rows: TrainingRows) -> float:
        """The share of rows, over all workers, whose label the model finds."""
        model = self._average.module if self._average is not None else self._model
        model.eval()
        counts = torch.zeros(2, dtype=torch.float64, device=self._device)
        with torch.inference_mode():
            for batch in self._batches(rows, PretrainConfig(batch_rows=self._config.batch_rows)).one_sweep():
                pixels_B3PP, labels_B = self._pixels(batch)
                counts[0] += (model(pixels_B3PP).argmax(dim=1) == labels_B).sum()
                counts[1] += len(labels_B)
        if self._workers > 1:
            torch.distributed.all_reduce(counts)
        self._model.train()
        return float(counts[0] / counts[1].clamp(min=1))

    def _batches(self, rows: TrainingRows, config: PretrainConfig) -> RowBatches:
        order = RowOrder(
            self._training.config.seed, rows.piece_rows, self._rank, self._workers, self._config.shuffle_rows
        )
        augmentation = Augmentation(config, rows.images, self._training.config.backbone.image_px)
        return RowBatches(rows, order, augmentation, config.batch_rows, self._config.decoders)

    def _report(self, figures: dict[str, float]) -> None:
        """Tell how far the training is; with a checkpoint where it is time for one, or nothing is left to do."""
        is_last = self._step == self._epoch_steps * self._config.epochs
        is_due = time.monotonic() - self._saved_at >= self._config.checkpoint_minutes * 60
        saves = is_last or self._first_says(is_due)
        with tempfile.TemporaryDirectory(prefix="lmeraser-") as folder:
            checkpoint = None
            if saves:
                positions = self._gathered(self._position)
                if self._rank == 0:
                    torch.save(self._state(positions), Path(folder) / CHECKPOINT)
                    checkpoint = ray.train.Checkpoint.from_directory(folder)
                self._saved_at = time.monotonic()
            if saves or self._step % self._epoch_steps == 0:
                # All workers report equally often, or Ray waits for those that have not.
                ray.train.report({"step": self._step, **figures}, checkpoint=checkpoint)
        self._tell(self._step, figures)

    def _tell(self, step: int, figures: dict[str, float]) -> None:
        if self._rank == 0:
            self._training.progress.put(TrainingReport(step, step / self._epoch_steps, figures))

    def _state(self, positions: list[Position]) -> dict[str, Any]:
        return {
            "model": self._model.state_dict(),
            "average": None if self._average is None else self._average.module.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "step": self._step,
            "epoch_steps": self._epoch_steps,
            "positions": [(each.sweep, each.window, each.row) for each in positions],
        }

    def _restore(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / CHECKPOINT, map_location=self._device, weights_only=True)
        self._model.load_state_dict(state["model"])
        if self._average is not None:
            self._average.module.load_state_dict(state["average"])
        rates = [group["lr"] for group in self._optimiser.param_groups]
        initial = [group["initial_lr"] for group in self._optimiser.param_groups]
        self._optimiser.load_state_dict(state["optimiser"])
        for group, rate, first in zip(self._optimiser.param_groups, rates, initial, strict=True):
            group["lr"], group["initial_lr"] = rate, first
        if state["epoch_steps"] == self._epoch_steps and len(state["positions"]) == self._workers:
            self._step = state["step"]
            self._position = Position(*state["positions"][self._rank])
        else:
            # Other workers divide the rows otherwise: they begin a sweep that none has begun.
            self._step = state["step"] * self._epoch_steps // state["epoch_steps"]
            self._position = Position(1 + max(sweep for sweep, _, _ in state["positions"]))

    def _first_says(self, value: bool) -> bool:
        """What the first worker thinks, because clocks differ."""
        if self._workers == 1:
            return value
        flag = torch.tensor([value], dtype=torch.uint8, device=self._device)
        torch.distributed.broadcast(flag, 0)
        return bool(flag.item())

    def _gathered(self, position: Position) -> list[Position]:
        """The positions of all workers."""
        if self._workers == 1:
            return [position]
        positions: list[Any] = [None] * self._workers
        torch.distributed.all_gather_object(positions, position)
        return positions


class _Loss:
    """Cross entropy with what is done to whole batches: mixup, CutMix, erased rectangles."""

    def __init__(self, config: PretrainConfig, classes: int, device: torch.device) -> None:
        self._smoothing = config.label_smoothing
        self._erase = RandomErasing(config.erase, mode="pixel", device=device) if config.erase else None
        self._mix: Mixup | None = None
        if config.mixup or config.cutmix:
            self._mix = Mixup(config.mixup, config.cutmix, label_smoothing=config.label_smoothing, num_classes=classes)
        self._soft = SoftTargetCrossEntropy()

    def __call__(self, model: nn.Module, pixels_B3PP: Tensor, labels_B: Tensor) -> Tensor:
        if self._erase is not None:
            pixels_B3PP = self._erase(pixels_B3PP)
        if self._mix is None:
            return nn.functional.cross_entropy(model(pixels_B3PP), labels_B, label_smoothing=self._smoothing)
        mixed_B3PP, targets_BC = self._mix(pixels_B3PP, labels_B)
        loss: Tensor = self._soft(model(mixed_B3PP), targets_BC)
        return loss
