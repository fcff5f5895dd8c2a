"""Pretraining by one worker of Ray Train against a plain loop with timm and a DataLoader.

Both have the same model, optimiser, schedule and augmentation, one thread for the steps and one process that decodes.
They take turns, so that what else the machine does meets both. Images a second are medians of all reports but
the first.

    python -m benchmarks.bench_pretrain --data DATA --rows 2500 5000 10000

DATA holds public/tiny-imagenet-train.parquet. The process that trains is also looked up in /proc: its private memory
(RssAnon), and with it the pages that it shares with Ray's object store (VmRSS).
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from cluster.pretrain import pretrain
from cluster.pretrain_worker import TrainingReport
from cluster.runtime import connect
from lmeraser.config import BackboneConfig, Config, PretrainConfig, SourceConfig
from lmeraser.learning.backbone import create_model
from lmeraser.store import LocalStore

BACKBONE = BackboneConfig(
    "vit_tiny_patch16_224", "trained", 64, {"patch_size": 8, "embed_dim": 96, "depth": 6, "num_heads": 3}
)
CROP_SCALE, BATCH_ROWS, RATE = 0.5, 64, 0.001


class Worker:
    """What the process that trains needs, at most, in MiB, and its figures."""

    def __init__(self) -> None:
        self.private_mib = self.resident_mib = 0.0
        self.losses: list[float] = []
        self.images_per_s: list[float] = []
        self._ended = threading.Event()

    def add(self, step: TrainingReport) -> None:
        if step.figures:
            self.images_per_s.append(step.figures["images_per_s"])
            self.losses.append(step.figures["loss"])

    def watch(self) -> None:
        """Look at memory until the end."""
        while not self._ended.wait(0.2):
            for folder in Path("/proc").iterdir():
                try:
                    if folder.name.isdigit() and (folder / "cmdline").read_text().startswith("ray::RayTrainWorker"):
                        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
                        self.private_mib = max(self.private_mib, int(status["RssAnon"].split()[0]) / 1024)
                        self.resident_mib = max(self.resident_mib, int(status["VmRSS"].split()[0]) / 1024)
                except (OSError, KeyError):
                    continue

    def end(self) -> None:
        self._ended.set()


class Rows(Dataset[tuple[Tensor, int]]):
    """Encoded images in memory, decoded when they are asked for."""

    def __init__(self, file: Path, rows: int) -> None:
        table = pq.read_table(file, columns=["image", "label"]).slice(0, rows)
        self._images = [image["bytes"] for image in table["image"].to_pylist()]
        self._labels = table["label"].to_pylist()
        bicubic = v2.InterpolationMode.BICUBIC
        self._transform = v2.Compose(
            [
                v2.RandomResizedCrop((64, 64), scale=(CROP_SCALE, 1.0), interpolation=bicubic),
                v2.RandomHorizontalFlip(),
                v2.PILToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        with Image.open(io.BytesIO(self._images[row])) as image:
            return self._transform(image.convert("RGB")), self._labels[row]


def plain(file: Path, rows: int, epochs: int, seed: int, classes: int) -> Worker:
    """A loop as a tutorial for timm has it."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    loader = DataLoader(Rows(file, rows), BATCH_ROWS, shuffle=True, num_workers=1, drop_last=True)
    model = create_model(BACKBONE, classes=classes)
    optimiser = create_optimizer_v2(model, opt="adamw", lr=RATE, weight_decay=0.05)
    steps = epochs * len(loader)
    schedule = CosineLRScheduler(optimiser, steps, warmup_t=50, warmup_lr_init=RATE / 50, t_in_epochs=False)
    result, step = Worker(), 0
    for _ in range(epochs):
        total, since, counted = 0.0, time.monotonic(), 0
        for images, labels in loader:
            schedule.step_update(step)
            loss = nn.functional.cross_entropy(model((images.float() / 255 - 0.5) / 0.5), labels, label_smoothing=0.1)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total, counted, step = total + float(loss.detach()), counted + 1, step + 1
            if counted == 20 or step % len(loader) == 0:
                took = time.monotonic() - since
                result.add(
                    TrainingReport(step, 0, {"images_per_s": counted * BATCH_ROWS / took, "loss": total / counted})
                )
                total, since, counted = 0.0, time.monotonic(), 0
    return result


def ours(file: Path, rows: int, epochs: int, seed: int, folder: Path) -> Worker:
    """The same by ``lmeraser pretrain``."""
    part = folder / f"{rows}.parquet"
    if not part.exists():
        pq.write_table(pq.read_table(file).slice(0, rows), part, row_group_size=500)
    options = PretrainConfig(
        epochs=epochs,
        batch_rows=BATCH_ROWS,
        learning_rate=RATE,
        crop_scale=CROP_SCALE,
        flip=True,
        shuffle_rows=2048,
        workers=1,
        decoders=1,
        max_failures=0,
    )
    config = Config(backbone=BACKBONE, public=SourceConfig("parquet", str(part)), pretrain=options, seed=seed)
    result = Worker()
    watching = threading.Thread(target=result.watch)
    watching.start()
    store = folder / f"store-{rows}-{seed}"
    shutil.rmtree(store, ignore_errors=True)
    try:
        pretrain(config, LocalStore(store), lambda *_: None, result)
    finally:
        result.end()
        watching.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("LMERASER_DATA", ".")))
    parser.add_argument("--rows", type=int, nargs="+", default=[2500, 5000, 10_000])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--runs", type=int, default=2, help="of each, with seeds of their own, on the most rows")
    options = parser.parse_args()
    file = options.data / "public" / "tiny-imagenet-train.parquet"
    classes = 200
    connect()
    with tempfile.TemporaryDirectory() as name:
        for rows in sorted(options.rows):
            for seed in range(options.runs if rows == max(options.rows) else 1):
                loop = plain(file, rows, options.epochs, seed, classes)
                worker = ours(file, rows, options.epochs, seed, Path(name))
                rate, own_rate = (median(each.images_per_s[1:]) for each in (loop, worker))
                print(f"{rows} rows, seed {seed}: {rate:.0f} images/s, {own_rate:.0f} here ({own_rate / rate:.2f})")
                print(f"  loss by quarter of the run: {quarters(loop.losses)}, {quarters(worker.losses)} here")
                print(f"  memory: {worker.private_mib:.0f} MiB private, {worker.resident_mib:.0f} resident", flush=True)


def quarters(losses: list[float]) -> list[float]:
    """The mean of each quarter."""
    return [round(float(np.mean(part)), 3) for part in np.array_split(losses, 4)]


if __name__ == "__main__":
    main()
