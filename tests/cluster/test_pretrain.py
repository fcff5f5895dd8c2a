"""Training the backbone on public rows: by two workers, once, and continued after a worker or the driver is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import ray
import torch
import yaml
from ray.util.placement_group import placement_group, remove_placement_group
from small_system import LABELS, picture

from cluster.pretrain import pretrain
from cluster.pretrain_log import TrainingLog
from cluster.pretrain_worker import TrainingReport
from cluster.trained_weights import weights_name
from lmeraser.config import BackboneConfig, Config, PretrainConfig, SourceConfig
from lmeraser.data import decode_image
from lmeraser.errors import BackboneError, ConfigError, DataError
from lmeraser.learning.backbone import create_model, open_backbone
from lmeraser.learning.weights import read_weights
from lmeraser.store import LocalStore

# Raised by Ray Train itself.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")
EPOCHS = 6
# As an image folder declares them.
NAMES = sorted(LABELS)
VIT = BackboneConfig(
    "vit_tiny_patch16_224", "trained", 16, {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
)


class Trained(NamedTuple):
    config: Config
    store: LocalStore
    name: str
    epochs: list[int]


class Epochs:
    """Takes in reports; calls ``then`` with each new number of epochs."""

    def __init__(self, then: Callable[[int], None] | None = None) -> None:
        self.seen: list[int] = []
        self._then = then

    def __call__(self, what: str, done: int, total: int) -> None:
        assert (what, total) == ("epochs", EPOCHS)
        if self.seen[-1:] == [done]:
            return
        self.seen.append(done)
        if self._then is not None:
            self._then(done)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("public")
    for number in range(96):
        file = folder / LABELS[number % 3] / f"p{number}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(picture(number))
    return Config(
        backbone=VIT,
        public=SourceConfig("image_folder", str(folder)),
        pretrain=PretrainConfig(
            epochs=EPOCHS,
            batch_rows=4,
            learning_rate=0.01,
            warmup_steps=10,
            workers=2,
            decoders=1,
            checkpoint_minutes=0,
        ),
    )


@pytest.fixture(scope="module")
def trained(ray_local: None, config: Config, tmp_path_factory: pytest.TempPathFactory) -> Trained:  # noqa: ARG001
    store = LocalStore(tmp_path_factory.mktemp("trained") / "store")
    epochs = Epochs()
    return Trained(config, store, pretrain(config, store, epochs), epochs.seen)


@pytest.mark.ray
def test_two_workers_train_weights_that_distinguish_the_labels(trained: Trained) -> None:
    assert trained.epochs == list(range(EPOCHS + 1))
    assert trained.name == weights_name(trained.config)
    model = create_model(VIT, classes=3)
    model.load_state_dict(read_weights(Path(trained.store.uri) / trained.name))
    images_N3PP = np.stack([decode_image(picture(number), 16) for number in range(500, 560)])
    with torch.inference_mode():
        guessed_N = model.eval()((torch.from_numpy(images_N3PP).float() / 255 - 0.5) / 0.5).argmax(1)
    right = [NAMES[guess] == LABELS[number % 3] for number, guess in zip(range(500, 560), guessed_N, strict=True)]
    assert np.mean(right) > 0.8


@pytest.mark.ray
def test_the_trained_weights_load_as_the_backbone(trained: Trained) -> None:
    state = read_weights(Path(trained.store.uri) / trained.name)
    backbone = open_backbone(VIT, state)
    for name, tensor in backbone.model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    with pytest.raises(BackboneError, match="lmeraser pretrain"):
        open_backbone(VIT)


@pytest.mark.ray
def test_existing_weights_are_not_trained_again(trained: Trained) -> None:
    files = {path: path.stat().st_mtime_ns for path in Path(trained.store.uri).rglob("*")}
    epochs = Epochs()
    assert pretrain(trained.config, trained.store, epochs) == trained.name
    assert epochs.seen == []
    assert {path: path.stat().st_mtime_ns for path in Path(trained.store.uri).rglob("*")} == files


@pytest.mark.ray
def test_a_run_waits_for_processors_and_continues_from_its_checkpoint_after_a_worker_is_killed(
    trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.pretrain._WARN_AFTER_S", 4.0)
    workers: list[set[int]] = []

    def kill_one(epoch: int) -> None:
        workers.append(train_workers())
        if epoch == 3 and len(workers) == 4:
            os.kill(min(workers[-1]), signal.SIGKILL)

    store = LocalStore(tmp_path / "store")
    epochs = Epochs(kill_one)
    group = placement_group([{"CPU": ray.cluster_resources()["CPU"]}])
    ray.get(group.ready())
    with ThreadPoolExecutor(1) as thread:
        try:
            training = thread.submit(pretrain, trained.config, store, epochs)
            while not caplog.messages and not training.done():
                time.sleep(0.1)
            begun_without_processor = list(epochs.seen)
        finally:
            # Otherwise the thread would block a test that timed out.
            remove_placement_group(group)
        name = training.result()
    assert "they need 2 CPU, and Ray has 0 CPU free" in caplog.text
    assert begun_without_processor == []
    # Other workers continued, and not from the first epoch.
    assert any(later and later.isdisjoint(workers[3]) for later in workers[4:])
    assert set(epochs.seen) == set(range(EPOCHS + 1))
    assert epochs.seen.count(0) == epochs.seen.count(1) == 1
    assert name == trained.name
    assert store.get(trained.name) == trained.store.get(trained.name)


@pytest.mark.ray
def test_a_run_whose_driver_is_killed_goes_on_and_ends_with_the_same_weights(trained: Trained, tmp_path: Path) -> None:
    config = trained.config
    settings = {
        "backbone": asdict(config.backbone),
        "public": {"kind": "image_folder", "path": config.public.path},
        "pretrain": {
            name: getattr(config.pretrain, name) for name in ("epochs", "batch_rows", "learning_rate", "warmup_steps")
        }
        | {"checkpoint_minutes": 0},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    store = LocalStore(tmp_path / "store")
    run = tmp_path / "store" / "train" / Path(trained.name).stem
    command = [sys.executable, "-m", "cluster.cli", "pretrain", "--config", str(tmp_path / "config.yaml")]
    driver = subprocess.Popen([*command, "--store", store.uri], start_new_session=True)
    # Ray Train writes it once a checkpoint is complete.
    while driver.poll() is None and not (run / "checkpoint_manager_snapshot.json").exists():
        time.sleep(0.05)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    assert not store.exists(trained.name)
    epochs = Epochs()
    assert pretrain(config, store, epochs) == trained.name
    assert epochs.seen[0] > 0 and epochs.seen[-1] == EPOCHS
    assert store.get(trained.name) == trained.store.get(trained.name)
    # Nothing of the run remains but its weights.
    assert not run.exists()


def test_an_optimiser_that_timm_does_not_have_is_refused(config: Config, tmp_path: Path) -> None:
    options = replace(config.pretrain, optimiser="adamant")
    with pytest.raises(ConfigError, match=r"adamant.*adamw"):
        pretrain(replace(config, pretrain=options), LocalStore(tmp_path / "store"), Epochs())


def test_figures_are_written_for_tensorboard(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "board")
    log.add(TrainingReport(20, 0.5, {"loss": 1.25, "accuracy": 0.5}))
    log.close()
    (file,) = (tmp_path / "board").iterdir()
    assert file.name.startswith("events.out.tfevents")
    assert all(name in file.read_bytes() for name in (b"loss", b"accuracy", np.float32(1.25).tobytes()))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"backbone": replace(VIT, model_args={**VIT.model_args, "depth": 1})},
        {"public": SourceConfig("image_folder", "/other")},
        {"pretrain": PretrainConfig(epochs=EPOCHS + 1, batch_rows=4, learning_rate=0.01, warmup_steps=10, workers=2)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_weights_from_other_inputs_have_another_name(config: Config, change: dict[str, Any]) -> None:
    assert weights_name(replace(config, **change)) != weights_name(config)


def test_the_name_depends_on_nothing_that_leaves_the_weights_as_they_are(config: Config) -> None:
    options = replace(config.pretrain, max_failures=9, checkpoint_minutes=1, decoders=5, validation=config.public)
    patient = replace(config, pretrain=options, private=SourceConfig("glyphs"))
    assert weights_name(patient) == weights_name(config)


@pytest.mark.parametrize("weights", ["pretrained", "/some/file.safetensors"])
def test_a_backbone_that_has_its_weights_is_not_trained(config: Config, tmp_path: Path, weights: str) -> None:
    store = LocalStore(tmp_path / "store")
    with pytest.raises(BackboneError, match=f"{weights}.*'trained'"):
        pretrain(replace(config, backbone=replace(VIT, weights=weights)), store, Epochs())
    assert store.names() == []


def test_an_unknown_model_or_missing_public_rows_are_reported_before_training(config: Config, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    (tmp_path / "public" / "red").mkdir(parents=True)
    with pytest.raises(DataError, match="no rows"):
        pretrain(replace(config, public=SourceConfig("image_folder", str(tmp_path / "public"))), store, Epochs())
    with pytest.raises(DataError, match="nowhere"):
        pretrain(replace(config, public=SourceConfig("image_folder", str(tmp_path / "nowhere"))), store, Epochs())
    with pytest.raises(BackboneError, match="vit_gigantic"):
        pretrain(replace(config, backbone=replace(VIT, name="vit_gigantic")), store, Epochs())
    assert store.names() == []


def train_workers() -> set[int]:
    """Processes of Ray Train workers that descend from this process."""
    parents: dict[int, int] = {}
    workers: set[int] = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                # Fields of proc(5): the parent is the second after the name in parentheses.
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if (folder / "cmdline").read_text().startswith("ray::RayTrainWorker"):
                    workers.add(int(folder.name))
            except OSError:
                continue
    return {pid for pid in workers if os.getpid() in ancestors(pid, parents)}


def ancestors(pid: int, parents: dict[int, int]) -> set[int]:
    pids: set[int] = set()
    while pid in parents:
        pid = parents[pid]
        pids.add(pid)
    return pids
