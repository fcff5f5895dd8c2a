"""Training the backbone on public rows with Ray Train.

Legend: N rows, B rows of a batch, P pixels per side, C classes.
"""

from __future__ import annotations

import logging
import math
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import torch
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.placement_group import placement_group_table
from ray.util.queue import Empty, Queue
from torch import Tensor, nn

from cluster.causes import described
from cluster.trained_weights import weights_name
from lmeraser.config import Config, PretrainConfig, SourceConfig
from lmeraser.data import decode_image, located, open_public
from lmeraser.errors import BackboneError, DataError
from lmeraser.hashing import draw_uint64
from lmeraser.learning.backbone import create_model, normalisation
from lmeraser.learning.schedule import half_cosine
from lmeraser.learning.weights import weights_of
from lmeraser.progress import Progress
from lmeraser.store import Store
from lmeraser.store.filesystem import filesystem

_CHECKPOINT = "checkpoint.pt"
_WARM_UP_STEPS = 50
_LABEL_SMOOTHING = 0.1
_WEIGHT_DECAY = 0.05
_POLL_S = 0.2
_WARN_AFTER_S = 15.0
_log = logging.getLogger(__name__)


def pretrain(config: Config, store: Store, report: Progress) -> str:
    """Train the backbone from scratch to classify the public rows, and put its weights into the store.

    A run that a lost worker or driver has interrupted resumes after its last epoch. Weights that are in the store
    already are not trained again.

    Returns:
        The weights' name in the store.

    Raises:
        BackboneError: when ``backbone.weights`` is not "trained", timm cannot build the model, or the training fails.
        DataError: when there are no public rows.
        StoreError: when Store.check refuses the store's location.
    """
    if config.backbone.weights != "trained":
        raise BackboneError(f"backbone.weights is {config.backbone.weights!r}; training needs 'trained'")
    name = weights_name(config)
    if store.exists(name):
        return name
    create_model(config.backbone)
    source = open_public(config.public)
    if next(iter(source.samples(source.labels)), None) is None:
        raise DataError("the public source holds no rows")
    store.check()
    storage, path = filesystem(store.uri)
    progress = Queue(actor_options={"num_cpus": 0})
    trainer = TorchTrainer(
        _train,
        train_loop_config={"config": replace(config, public=located(config.public)), "progress": progress},
        scaling_config=ScalingConfig(num_workers=config.pretrain.workers, use_gpu=config.backbone.device == "cuda"),
        run_config=RunConfig(
            name=Path(name).stem,
            storage_path=f"{path}/train",
            storage_filesystem=storage,
            failure_config=FailureConfig(max_failures=config.pretrain.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        result = _fit(trainer, progress, config.pretrain.epochs, report)
    finally:
        progress.shutdown(force=True)
    if result.error is not None or result.checkpoint is None:
        reason = described(result.error) if result.error is not None else "it left no checkpoint"
        raise BackboneError(f"the training failed: {reason}") from result.error
    with result.checkpoint.as_directory() as folder:
        state = torch.load(Path(folder) / _CHECKPOINT, map_location="cpu", weights_only=True)
    store.put(name, weights_of(state["model"]))
    return name


def _fit(trainer: TorchTrainer, progress: Queue, epochs: int, report: Progress) -> ray.train.Result:
    """Run the trainer in a thread, and report the progress of its first worker."""
    ended: list[ray.train.Result | Exception] = []

    def run() -> None:
        try:
            ended.append(trainer.fit())
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=run, name="pretrain", daemon=True)
    thread.start()
    warn_at: float | None = time.monotonic() + _WARN_AFTER_S
    while thread.is_alive():
        try:
            report("epochs", progress.get(timeout=_POLL_S), epochs)
            warn_at = None
        except Empty:
            if warn_at is not None and time.monotonic() > warn_at and _waits_for_resources():
                warn_at = None
                _log_free_resources(trainer.scaling_config)
    if isinstance(ended[0], Exception):
        raise BackboneError(f"the training failed: {described(ended[0])}") from ended[0]
    return ended[0]


def _waits_for_resources() -> bool:
    """Whether a group of workers still waits for resources; workers that only start slowly have theirs."""
    return any(group["state"] == "PENDING" for group in placement_group_table().values())


def _log_free_resources(scaling: ScalingConfig) -> None:
    available = ray.available_resources()
    needed = ", ".join(f"{amount:g} {kind}" for kind, amount in scaling.total_resources.items())
    free = ", ".join(f"{available.get(kind, 0):g} {kind}" for kind in scaling.total_resources)
    # In a driver of Ray, only errors are logged.
    _log.error(
        "no worker has begun after %g s; they need %s, and Ray has %s free: a service or owners may use the rest",
        _WARN_AFTER_S,
        needed,
        free,
    )


def _train(arguments: dict[str, Any]) -> None:
    """Run one worker: its share of the rows, in one thread, with a checkpoint after every epoch."""
    import ray.train.torch

    config: Config = arguments["config"]
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    images_N3PP, labels_N, classes = _public_rows(config.public, config.backbone.image_px)
    model = create_model(config.backbone, classes=classes)
    device = ray.train.torch.get_device()
    wrapped = ray.train.torch.prepare_model(model, parallel_strategy="ddp" if workers > 1 else None)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.pretrain.learning_rate, weight_decay=_WEIGHT_DECAY)
    begun = 0
    if (checkpoint := ray.train.get_checkpoint()) is not None:
        with checkpoint.as_directory() as folder:
            state = torch.load(Path(folder) / _CHECKPOINT, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        begun = state["epochs"]
    if rank == 0:
        arguments["progress"].put(begun)
    for epoch in range(begun, config.pretrain.epochs):
        loss = _epoch(wrapped, optimiser, config, epoch, (rank, workers), images_N3PP, labels_N, device)
        with tempfile.TemporaryDirectory(prefix="lmeraser-") as folder:
            saved = None
            if rank == 0:
                state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epochs": epoch + 1}
                torch.save(state, Path(folder) / _CHECKPOINT)
                saved = ray.train.Checkpoint.from_directory(folder)
            ray.train.report({"epoch": epoch + 1, "loss": loss}, checkpoint=saved)
        if rank == 0:
            arguments["progress"].put(epoch + 1)


def _epoch(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    config: Config,
    epoch: int,
    rank_and_workers: tuple[int, int],
    images_N3PP: Tensor,
    labels_N: Tensor,
    device: torch.device,
) -> float:
    """Train on this worker's share of a permutation that all workers draw alike; returns the mean loss."""
    rank, workers = rank_and_workers
    generator = np.random.Generator(np.random.PCG64(draw_uint64(config.seed, "epoch", epoch)))
    mine_N = generator.permutation(len(labels_N))[rank::workers]
    # Every worker takes the same number of steps, or the others would wait forever.
    steps = math.ceil(len(labels_N) // workers / config.pretrain.batch_rows)
    mean, std = normalisation(model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model)
    model.train()
    total = 0.0
    for step in range(steps):
        _set_rate(optimiser, config.pretrain, epoch * steps + step, steps * config.pretrain.epochs)
        batch_B = torch.from_numpy(mine_N[step * config.pretrain.batch_rows : (step + 1) * config.pretrain.batch_rows])
        pixels_B3PP = (images_N3PP[batch_B].to(device).float() / 255 - mean.to(device)) / std.to(device)
        loss = nn.functional.cross_entropy(
            model(pixels_B3PP), labels_N[batch_B].to(device), label_smoothing=_LABEL_SMOOTHING
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += float(loss)
    return total / steps


def _set_rate(optimiser: torch.optim.Optimizer, config: PretrainConfig, step: int, steps: int) -> None:
    """Set the learning rate: a linear warm-up, then half a cosine to zero."""
    rate = config.learning_rate * min(1, (step + 1) / _WARM_UP_STEPS) * half_cosine(step, steps)
    for group in optimiser.param_groups:
        group["lr"] = rate


def _public_rows(source: SourceConfig, image_px: int) -> tuple[Tensor, Tensor, int]:
    """All public images, their labels, and how many labels there are."""
    opened = open_public(source)
    samples = list(opened.samples(opened.labels))
    images_N3PP = np.stack([decode_image(sample.image, image_px) for sample in samples])
    return torch.from_numpy(images_N3PP), torch.tensor([sample.label for sample in samples]), len(opened.labels)
