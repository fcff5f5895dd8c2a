"""What one worker trains against a plain loop with timm."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from small_system import LABELS, MINUTE, picture
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3

from cluster.pretrain import pretrain
from cluster.pretrain_order import Position, RowOrder
from cluster.pretrain_rows import TrainingRows
from cluster.pretrain_worker import TrainingReport
from lmeraser.config import Config, PretrainConfig, SourceConfig
from lmeraser.data import decode_image
from lmeraser.hashing import draw_uint64
from lmeraser.learning.augmentation import Augmentation
from lmeraser.learning.backbone import create_model
from lmeraser.learning.weights import read_weights
from lmeraser.store import LocalStore

# Raised by Ray Train itself.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")
# As an image folder declares them.
NAMES = sorted(LABELS)


class Figures:
    """Takes in the figures of a training."""

    def __init__(self) -> None:
        self.of_step: dict[int, dict[str, float]] = {}

    def add(self, step: TrainingReport) -> None:
        self.of_step[step.steps] = step.figures


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_one_worker_trains_what_a_plain_loop_with_timm_trains(tmp_path: Path) -> None:
    for number in range(96):
        file = tmp_path / "public" / LABELS[number % 3] / f"p{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(number))
    public = SourceConfig("image_folder", str(tmp_path / "public"))
    options = PretrainConfig(
        epochs=3,
        batch_rows=8,
        optimiser="lamb",
        warmup_steps=10,
        flip=True,
        mixup=0.4,
        erase=0.5,
        ema_decay=0.9,
        shuffle_rows=40,
        workers=1,
        validation=public,
    )
    config = Config(backbone=MINUTE, public=public, pretrain=options)
    store, figures = LocalStore(tmp_path / "store"), Figures()
    state = read_weights(Path(store.uri) / pretrain(config, store, lambda *_: None, figures))
    rows = TrainingRows.of(config.public, config.images, 1)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = create_model(MINUTE, classes=3)
    optimiser = create_optimizer_v2(model, opt="lamb", lr=0.002, weight_decay=0.05)
    schedule = CosineLRScheduler(optimiser, t_initial=36, warmup_t=10, warmup_lr_init=0.0002, t_in_epochs=False)
    average = ModelEmaV3(model, decay=0.9, use_warmup=True)
    mix, erase = Mixup(0.4, label_smoothing=0.1, num_classes=3), RandomErasing(0.5, mode="pixel", device="cpu")
    losses = []
    for step, (images, labels) in enumerate(islice(plain_batches(rows, options), 36)):
        seed = draw_uint64(0, "step", step, 0)
        torch.manual_seed(seed)
        # timm draws from these two.
        random.seed(seed)
        np.random.seed(seed % 2**32)
        schedule.step_update(step)
        mixed, targets = mix(erase((torch.from_numpy(images).float() / 255 - 0.5) / 0.5), torch.from_numpy(labels))
        loss = -(targets * model(mixed).log_softmax(dim=1)).sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        average.update(model, step=step)
        losses.append(float(loss.detach()))
    for name, tensor in average.module.state_dict().items():
        assert torch.allclose(tensor, state[name], atol=1e-5), name
    assert figures.of_step[12]["loss"] == pytest.approx(np.mean(losses[:12]), abs=1e-4)
    assert figures.of_step[36]["loss"] == pytest.approx(np.mean(losses[24:]), abs=1e-4)
    images = np.stack([decode_image(picture(number), 16) for number in range(96)])
    with torch.inference_mode():
        guessed_N = average.module.eval()((torch.from_numpy(images).float() / 255 - 0.5) / 0.5).argmax(1)
    right = [NAMES[guess] == LABELS[number % 3] for number, guess in enumerate(guessed_N.tolist())]
    assert figures.of_step[36]["accuracy"] == pytest.approx(np.mean(right))


def plain_batches(rows: TrainingRows, options: PretrainConfig) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Eight rows at a time, in the order that seed and sweep give, each mirrored or not."""
    order = RowOrder(0, rows.piece_rows, 0, 1, options.shuffle_rows)
    augmentation = Augmentation(options, rows.images, 16)
    images: list[np.ndarray] = []
    labels: list[int] = []
    for position in order.following(Position()):
        samples = [sample for part in order.windows(position.sweep)[position.window] for sample in rows.read(part)]
        for row, number in enumerate(order.shuffled(position, len(samples)).tolist()):
            images.append(augmentation.decoded(samples[number].image, order.row_seed(position, row)))
            labels.append(samples[number].label)
            if len(images) == 8:
                yield np.stack(images), np.array(labels)
                images, labels = [], []
