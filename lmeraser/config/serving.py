"""Options for predictions; they do not affect the state root."""

from __future__ import annotations

from dataclasses import field
from typing import Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from lmeraser.config.images import ImagesConfig
from lmeraser.config.validation import STRICT

# One batch runs while the next one fills; further requests wait at most about as long as those before them take.
_BATCHES = 6
_SINGLE_IMAGES = 48


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AutoscalingConfig:
    """How many replicas Ray Serve keeps, by the number of requests.

    Attributes:
        min_replicas: fewest replicas.
        max_replicas: most replicas. Serve asks Ray for nodes where they do not fit.
        target_ongoing_requests: how many requests a replica should be answering on average. Serve adds replicas when
            there are more, and removes some when there are fewer.
    """

    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(ge=1)
    target_ongoing_requests: float = Field(default=16.0, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas is {self.max_replicas} and min_replicas is {self.min_replicas}: allowed is at least "
                "min_replicas"
            )
        return self


@dataclass(frozen=True, config=STRICT)
class ServingConfig:
    """How predictions are answered.

    Attributes:
        specialist_weight: λ, the weight of the pooled head in the answer for an image whose cluster has a prompt, where
            that head is no worse than the shared one by cross-validation; otherwise the shared head answers alone. With
            1 an image takes one pass through the backbone, between 0 and 1 it takes two.
        temperature: τ, by which scores are divided before the softmax.
        max_batch_images: largest number of images in one request.
        replicas: number of Serve replicas; not together with ``autoscaling``.
        autoscaling: have Serve choose the number of replicas; ``replicas`` when absent.
        gpus_per_replica: share of a GPU that Ray reserves for a replica, with ``backbone.device: cuda`` only; 0.1 when
            absent. During a rollout a replica and its successor have a share each. Owners share 0.7 of each GPU, so a
            replica with more than 0.3 gets a GPU on which fewer owners or none are at work.
        threads: CPU threads for one replica's forward pass.
        bf16: run the forward pass in bfloat16; answers differ in the third digit, and nothing that is stored changes.
        images: which images are accepted; a configuration file sets this once, as ``images`` next to ``serving``.
        compile: have torch compile the blocks of a Vision Transformer; the first batches are slow.
    """

    specialist_weight: float = Field(default=1.0, ge=0, le=1)
    temperature: float = Field(default=2.0, gt=0)
    max_batch_images: int = Field(default=64, ge=1, le=4096)
    replicas: int = Field(default=1, ge=1)
    autoscaling: AutoscalingConfig | None = None
    gpus_per_replica: float | None = Field(default=None, gt=0, le=1)
    threads: int = Field(default=1, ge=1)
    bf16: bool = False
    images: ImagesConfig = field(default_factory=ImagesConfig)
    compile: bool = False

    @model_validator(mode="after")
    def _replicas_are_set_once(self) -> Self:
        if self.autoscaling is not None and self.replicas != 1:
            raise ValueError(
                f"replicas is {self.replicas} and autoscaling is set: write autoscaling.min_replicas and max_replicas "
                "instead of replicas"
            )
        return self

    @model_validator(mode="after")
    def _target_can_be_reached(self) -> Self:
        target = 0.0 if self.autoscaling is None else self.autoscaling.target_ongoing_requests
        if target > self.max_requests:
            raise ValueError(
                f"autoscaling.target_ongoing_requests is {target:g}, but with max_batch_images "
                f"{self.max_batch_images} a replica takes on at most {self.max_requests} requests at a time, so Serve "
                f"would never add one: allowed is at most {self.max_requests}"
            )
        return self

    @property
    def max_requests(self) -> int:
        """How many predictions one replica takes on at a time."""
        return _BATCHES * self.max_batch_images + _SINGLE_IMAGES

    @property
    def max_replicas(self) -> int:
        """How many replicas there are at most, not counting successors during a rollout."""
        return self.replicas if self.autoscaling is None else self.autoscaling.max_replicas
