"""Prompts: what a cluster adds to the input of the frozen backbone.

A prompt is one float32 tensor, so a pool of prompts is their stack, and a batch gathers its prompts by index.

Legend: N rows, M some of the rows, P pixels per side, T prompt tokens, D width, R routing features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from lmeraser.config import PromptConfig
from lmeraser.errors import BackboneError
from lmeraser.hashing import draw_uint64
from lmeraser.learning.backbone import Backbone, Features, Hidden, VitBackbone

_START_DEVIATION = 0.02


class LowerPart(Protocol):
    """A batch at the point where a prompt enters: all that does not depend on the prompt."""

    def rows(self, index_M: Tensor) -> Self:
        """Some rows of the batch."""

    def joined(self, others: Sequence[Self]) -> Self:
        """This batch and the others as one batch."""

    def routing(self) -> Tensor:
        """Routing features, float32 [N, R]: those of the backbone without a prompt."""

    def features(self, prompts_N: Tensor) -> Features:
        """Features, each row with its own prompt."""

    def plain(self) -> Features:
        """Features without a prompt."""


class PromptKind(Protocol):
    """How a prompt enters the backbone.

    Attributes:
        shape: of one prompt.
        enters_at: the block before which the prompt enters; below it, no prompt changes anything.
    """

    shape: tuple[int, ...]
    enters_at: int

    def start(self, seed: int) -> Tensor:
        """The prompt that a tuning starts from unless it is given another."""

    def lower(self, pixels_N3PP: Tensor) -> LowerPart:
        """The batch, up to the point where the prompt enters."""

    def routing(self, pixels_N3PP: Tensor) -> Tensor:
        """The routing features of the lower part, bit for bit; no block runs that they do not need."""

    def features(self, pixels_N3PP: Tensor, prompts_N: Tensor) -> Features:
        """Features of pixels, each image with its own prompt."""


@dataclass(frozen=True)
class _Pixels:
    """The lower part for a frame of pixels: the pixels themselves."""

    backbone: Backbone
    frame_1PP: Tensor
    pixels_N3PP: Tensor

    def rows(self, index_M: Tensor) -> _Pixels:
        return replace(self, pixels_N3PP=self.pixels_N3PP[index_M])

    def joined(self, others: Sequence[_Pixels]) -> _Pixels:
        return replace(self, pixels_N3PP=torch.cat([self.pixels_N3PP, *(other.pixels_N3PP for other in others)]))

    def routing(self) -> Tensor:
        return self.backbone.routing(self.pixels_N3PP)

    def features(self, prompts_N3PP: Tensor) -> Features:
        return self.backbone.features_of_pixels(torch.addcmul(self.pixels_N3PP, prompts_N3PP, self.frame_1PP))

    def plain(self) -> Features:
        return self.backbone.features_of_pixels(self.pixels_N3PP)


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

    def start(self, seed: int) -> Tensor:  # noqa: ARG002 - other kinds draw from it
        """No frame at all."""
        return torch.zeros(self.shape)

    def lower(self, pixels_N3PP: Tensor) -> LowerPart:
        """See PromptKind.lower."""
        return _Pixels(self._backbone, self._frame_1PP, pixels_N3PP)

    def routing(self, pixels_N3PP: Tensor) -> Tensor:
        """See PromptKind.routing."""
        return self.lower(pixels_N3PP).routing()

    def features(self, pixels_N3PP: Tensor, prompts_N3PP: Tensor) -> Features:
        """See PromptKind.features."""
        return self.lower(pixels_N3PP).features(prompts_N3PP)


@dataclass(frozen=True)
class _LowerBlocks:
    """The lower part for tokens: the blocks below the one that they enter."""

    backbone: VitBackbone
    hidden: Hidden

    def rows(self, index_M: Tensor) -> _LowerBlocks:
        return replace(self, hidden=self.hidden.rows(index_M))

    def joined(self, others: Sequence[_LowerBlocks]) -> _LowerBlocks:
        return replace(self, hidden=Hidden.joined([self.hidden, *(other.hidden for other in others)]))

    def routing(self) -> Tensor:
        return self.backbone.routing_of(self.hidden)

    def features(self, prompts_NTD: Tensor) -> Features:
        return self.backbone.finish(self.backbone.insert(self.hidden, prompts_NTD))

    def plain(self) -> Features:
        return self.backbone.finish(self.hidden)


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

    def lower(self, pixels_N3PP: Tensor) -> LowerPart:
        """See PromptKind.lower."""
        return _LowerBlocks(self._backbone, self._advanced(pixels_N3PP, self.enters_at))

    def routing(self, pixels_N3PP: Tensor) -> Tensor:
        """See PromptKind.routing."""
        # A prompt that enters below the routing block shares less with it, and the last block is then another kernel.
        hidden = self._advanced(pixels_N3PP, min(self.enters_at, self._backbone.routing_block))
        return self._backbone.routing_of(hidden)

    def features(self, pixels_N3PP: Tensor, prompts_NTD: Tensor) -> Features:
        """See PromptKind.features."""
        return self.lower(pixels_N3PP).features(prompts_NTD)

    def _advanced(self, pixels_N3PP: Tensor, to_block: int) -> Hidden:
        return self._backbone.advance(self._backbone.begin(pixels_N3PP), to_block)


def prompt_kind(config: PromptConfig, backbone: Backbone) -> PromptKind:
    """The kind of prompt that the configuration names.

    Raises:
        BackboneError: when the backbone does not support it.
    """
    if config.kind == "pad":
        return PadPrompt(config, backbone)
    if not isinstance(backbone, VitBackbone):
        raise BackboneError("prompt.kind token needs a Vision Transformer; this backbone supports pad only")
    return TokenPrompt(config, backbone)
