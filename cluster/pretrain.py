"""Training the backbone on public rows with Ray Train: the job that starts the workers and waits for them."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import ray
import ray.train
import torch
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.placement_group import placement_group_table
from ray.util.queue import Empty, Queue
from timm.optim import list_optimizers

from cluster.causes import described
from cluster.pretrain_rows import TrainingRows
from cluster.pretrain_worker import CHECKPOINT, Training, TrainingFigures, TrainingReport, train
from cluster.trained_weights import weights_name
from lmeraser.config import Config
from lmeraser.data import located
from lmeraser.errors import BackboneError, ConfigError
from lmeraser.learning.backbone import create_model
from lmeraser.learning.weights import weights_of
from lmeraser.progress import Progress
from lmeraser.store import Store
from lmeraser.store.filesystem import filesystem

_POLL_S = 0.2
_WARN_AFTER_S = 15.0
_log = logging.getLogger(__name__)


def pretrain(config: Config, store: Store, report: Progress, log: TrainingFigures | None = None) -> str:
    """Train the backbone from scratch to classify the public rows, and put its weights into the store.

    A run that a lost worker or driver has interrupted resumes from its last checkpoint. Weights that are in the store
    already are not trained again.

    Args:
        config: the configuration.
        store: takes in checkpoints and weights.
        report: called with the epochs that are done.
        log: takes in the figures of the training.

    Returns:
        The weights' name in the store.

    Raises:
        BackboneError: when ``backbone.weights`` is not "trained", timm cannot build the model, or the training fails.
        ConfigError: when timm has no such optimiser.
        DataError: when there are no public rows.
        StoreError: when Store.check refuses the store's location.
    """
    if config.backbone.weights != "trained":
        raise BackboneError(f"backbone.weights is {config.backbone.weights!r}; training needs 'trained'")
    name = weights_name(config)
    if store.exists(name):
        return name
    create_model(config.backbone)
    if config.pretrain.optimiser not in (known := [str(name) for name in list_optimizers()]):
        raise ConfigError(f"pretrain.optimiser is {config.pretrain.optimiser!r}; timm has {', '.join(known)}")
    rows = TrainingRows.of(located(config.public), config.images, config.pretrain.max_workers)
    store.check()
    storage, path = filesystem(store.uri)
    progress = Queue(actor_options={"num_cpus": 0})
    run = Path(name).stem
    trainer = TorchTrainer(
        train,
        train_loop_config={"training": Training(config, rows, _validation(config, rows), progress)},
        scaling_config=ScalingConfig(
            num_workers=config.pretrain.workers,
            use_gpu=config.backbone.device == "cuda",
            accelerator_type=config.pretrain.accelerator or None,
        ),
        run_config=RunConfig(
            name=run,
            storage_path=f"{path}/train",
            storage_filesystem=storage,
            failure_config=FailureConfig(max_failures=config.pretrain.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )
    try:
        result = _fit(trainer, progress, config.pretrain.epochs, report, log)
    finally:
        progress.shutdown(force=True)
    if result.error is not None or result.checkpoint is None:
        reason = described(result.error) if result.error is not None else "it left no checkpoint"
        raise BackboneError(f"the training failed: {reason}") from result.error
    with result.checkpoint.as_directory() as folder:
        state = torch.load(Path(folder) / CHECKPOINT, map_location="cpu", weights_only=True)
    store.put(name, weights_of(state["average"] or state["model"]))
    # Later runs have other names, so nothing else would ever remove it.
    storage.delete_dir(f"{path}/train/{run}")
    return name


def _validation(config: Config, rows: TrainingRows) -> TrainingRows | None:
    if config.pretrain.validation is None:
        return None
    source = located(config.pretrain.validation)
    return TrainingRows.of(source, config.images, config.pretrain.max_workers, rows.labels)


def _fit(
    trainer: TorchTrainer, progress: Queue, epochs: int, report: Progress, log: TrainingFigures | None
) -> ray.train.Result:
    """Run the trainer in a thread, and pass on what its first worker reports."""
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
            step: TrainingReport = progress.get(timeout=_POLL_S)
            report("epochs", int(step.epochs), epochs)
            warn_at = None
            if log is not None:
                log.add(step)
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
