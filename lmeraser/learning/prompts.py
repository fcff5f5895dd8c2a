"""Prompts: what a cluster adds to the input of the frozen backbone.

A prompt is one float32 tensor, so a bank of prompts is their stack and a batch gathers from it by index.

Legend: N rows, P pixels a side, T prompt tokens, D width.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lmeraser.config import PromptConfig
from lmeraser.errors import BackboneError
from lmeraser.hashing import draw_uint64
from lmeraser.learning.backbone import Backbone, Features, Hidden, VitBackbone

_START_DEVIATION = 0.02


class PromptKind(Protocol):
    """How a prompt enters the backbone."""

    shape: tuple[int, ...]
    enters_at: int

    def start(self, seed: int) -> Tensor:
        """The prompt that a tuning starts from where none is given."""

    def features(self, pixels_N3PP: Tensor, prompts_N: Tensor) -> Features:
        """Features of pixels, each with its own prompt."""


class PadPrompt:
    """An additive frame of pixels [3, P, P], zero inside the frame (LMEraser, section 4)."""

    enters_at = 0

    def __init__(self, config: PromptConfig, backbone: Backbone) -> None:
        size = backbone.image_px
        if 2 * config.pad_px >= size:
            raise BackboneError(
                f"prompt.pad_px is {config.pad_px}; at image_px {size} allowed is 1 to {(size - 1) // 2}"
            )
        self.shape: tuple[int, ...] = (3, size, size)
        self._backbone = backbone
        self._frame_1PP = torch.ones(1, size, size, device=backbone.device)
        self._frame_1PP[:, config.pad_px : -config.pad_px, config.pad_px : -config.pad_px] = 0

    def start(self, seed: int) -> Tensor:  # noqa: ARG002 - every kind is asked alike
        """No frame at all."""
        return torch.zeros(self.shape)

    def features(self, pixels_N3PP: Tensor, prompts_N3PP: Tensor) -> Features:
        """Features of pixels, each with its own frame."""
        return self._backbone.features_of_pixels(pixels_N3PP + prompts_N3PP * self._frame_1PP)


class TokenPrompt:
    """Learned tokens [T, D] that enter at one block (VPT, arXiv 2203.12119, section 3.2)."""

    def __init__(self, config: PromptConfig, backbone: VitBackbone) -> None:
        if config.depth >= backbone.block_count:
            raise BackboneError(f"prompt.depth is {config.depth}; allowed is 0 to {backbone.block_count - 1}")
        self.shape: tuple[int, ...] = (config.tokens, backbone.width)
        self.enters_at = config.depth
        self._backbone = backbone

    def start(self, seed: int) -> Tensor:
        """Small normal values drawn from the seed."""
        generator = np.random.Generator(np.random.PCG64(draw_uint64(seed, "prompt")))
        return torch.from_numpy(generator.normal(0, _START_DEVIATION, self.shape).astype(np.float32))

    def lower(self, pixels_N3PP: Tensor) -> Hidden:
        """The blocks below the prompt, which no prompt touches."""
        return self._backbone.advance(self._backbone.begin(pixels_N3PP), self.enters_at)

    def features(self, pixels_N3PP: Tensor, prompts_NTD: Tensor) -> Features:
        """Features of pixels, each with its own tokens."""
        return self.features_from(self.lower(pixels_N3PP), prompts_NTD)

    def features_from(self, hidden: Hidden, prompts_NTD: Tensor) -> Features:
        """Features from what :meth:`lower` gave, each with its own tokens."""
        return self._backbone.finish(self._backbone.insert(hidden, prompts_NTD))


def prompt_kind(config: PromptConfig, backbone: Backbone) -> PadPrompt | TokenPrompt:
    """The kind of prompt that the configuration names.

    Raises:
        BackboneError: when the backbone cannot carry it.
    """
    if config.kind == "pad":
        return PadPrompt(config, backbone)
    if not isinstance(backbone, VitBackbone):
        raise BackboneError("prompt.kind token needs a Vision Transformer; this backbone takes pad")
    return TokenPrompt(config, backbone)
