"""Options for predictions; they do not affect the state root."""

from __future__ import annotations

from dataclasses import field

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from lmeraser.config.images import ImagesConfig


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class ServingConfig:
    """How predictions are answered.

    Attributes:
        specialist_weight: λ, the weight of the pooled head in the answer for an image whose cluster has a prompt, where
            that head is no worse than the shared one by cross-validation; otherwise the shared head answers alone. With
            1 an image takes one pass through the backbone, between 0 and 1 it takes two.
        temperature: τ, by which scores are divided before the softmax.
        max_batch_images: largest number of images in one request.
        replicas: number of Serve replicas.
        threads: CPU threads for one replica's forward pass.
        bf16: run the forward pass in bfloat16; answers differ in the third digit, and nothing that is stored changes.
        images: which images are accepted; a configuration file sets this once, as ``images`` next to ``serving``.
        compile: have torch compile the blocks of a Vision Transformer; the first batches are slow.
    """

    specialist_weight: float = Field(default=1.0, ge=0, le=1)
    temperature: float = Field(default=2.0, gt=0)
    max_batch_images: int = Field(default=64, ge=1, le=4096)
    replicas: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    bf16: bool = False
    images: ImagesConfig = field(default_factory=ImagesConfig)
    compile: bool = False
