"""Options for training the backbone; they affect the state root only through the weights."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from lmeraser.config.sources import SourceConfig
from lmeraser.config.validation import STRICT

# What the weights do not depend on.
_ONLY_HOW = ("validation", "decoders", "accelerator", "checkpoint_minutes", "max_failures")


@dataclass(frozen=True, config=STRICT)
class PretrainConfig:
    """Training the backbone on public rows with Ray Train.

    Attributes:
        epochs: sweeps over the public rows.
        batch_rows: rows in one step of one worker.
        optimiser: a name in timm, such as "adamw", "lamb" or "sgd". Biases and norms are not decayed.
        learning_rate: peak rate, with as many workers as ``workers`` allows; with fewer, it is proportionally lower. It
            falls to zero on a half cosine.
        warmup_steps: steps in which the rate rises to that.
        weight_decay: decoupled weight decay.
        label_smoothing: the share of a row's label that is spread over all labels.
        crop_scale: augmentation: an image is cut to a random part that has at least this share of its area; 1 for none.
            A usual value for photographs is 0.08.
        flip: augmentation: half of the images are mirrored.
        rand_augment: augmentation: magnitude of RandAugment (arXiv 1909.13719), usually 9; 0 for none.
        erase: augmentation: the share of images of which a rectangle is erased (arXiv 1708.04896).
        mixup: augmentation: α of mixup (arXiv 1710.09412), usually 0.8; 0 for none.
        cutmix: augmentation: α of CutMix (arXiv 1905.04899), usually 1; 0 for none.
        ema_decay: the backbone is the moving average of the weights with this decay, such as 0.9998; 0 for the last
            weights.
        bfloat16: on a GPU, matrix products are computed in bfloat16 (autocast). A CPU always computes in float32.
        shuffle_rows: about so many rows, from parts of the source that are drawn anew in each sweep, are shuffled
            together. Fewer need less memory in the processes that decode.
        validation: rows on which accuracy is measured after each epoch; none when absent.
        workers: number of Ray Train workers; or a pair, the fewest and the most. With a pair, workers join and leave as
            the cluster grows and shrinks.
        decoders: for each worker, how many processes decode images.
        accelerator: GPU type of the workers' nodes, as Ray calls it, such as "L4"; any when empty.
        checkpoint_minutes: minutes between checkpoints. What was trained after the last one is trained again when a
            worker or the driver is lost.
        max_failures: how often a run may lose a worker and continue from its last checkpoint.
    """

    epochs: int = Field(default=10, ge=1)
    batch_rows: int = Field(default=128, ge=1)
    optimiser: str = "adamw"
    learning_rate: float = Field(default=0.002, gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    crop_scale: float = Field(default=1.0, gt=0, le=1)
    flip: bool = False
    rand_augment: int = Field(default=0, ge=0, le=30)
    erase: float = Field(default=0.0, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    bfloat16: bool = True
    shuffle_rows: int = Field(default=2048, ge=1)
    validation: SourceConfig | None = None
    workers: int | tuple[int, int] = 2
    decoders: int = Field(default=2, ge=1)
    accelerator: str = ""
    checkpoint_minutes: float = Field(default=10.0, ge=0)
    max_failures: int = Field(default=2, ge=0)

    @model_validator(mode="after")
    def _workers_are_a_range(self) -> Self:
        if not 1 <= self.min_workers <= self.max_workers:
            raise ValueError(
                f"pretrain.workers is {self.workers}; allowed is a number of at least 1, or a pair of them: the "
                "fewest, then the most"
            )
        return self

    @model_validator(mode="after")
    def _rows_are_mixed_in_pairs(self) -> Self:
        if (self.mixup or self.cutmix) and self.batch_rows % 2:
            raise ValueError(f"pretrain.batch_rows is {self.batch_rows}; mixup and cutmix need an even number")
        return self

    @property
    def min_workers(self) -> int:
        """The fewest workers."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def max_workers(self) -> int:
        """The most workers."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    def decides_weights(self) -> dict[str, Any]:
        """The values on which the weights depend."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _ONLY_HOW}
