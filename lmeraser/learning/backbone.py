"""The frozen backbone: a timm model whose features are read at several depths.

Legend: N rows, M some of the rows, P pixels per side, S tokens, T prompt tokens, D width, R routing features, F raw
head features, G cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from lmeraser.config import BackboneConfig
from lmeraser.errors import BackboneError
from lmeraser.learning.block_mean import mean_patch_after
from lmeraser.learning.cells import shares_of_patches
from lmeraser.learning.timm_models import VisionTransformer, timm
from lmeraser.learning.weights import load_weights, read_weights, token_px
from lmeraser.store.location import local_path


@dataclass(frozen=True)
class Features:
    """What the backbone computes for a batch.

    Attributes:
        head_NF: float32, input of the heads before the public projection.
        width: D, of the vectors that are read at the last depth.
    """

    head_NF: Tensor
    width: int

    @property
    def deepest_ND(self) -> Tensor:  # noqa: N802 - as the fields are called
        """The two vectors that are read last: of a Vision Transformer, class token and mean patch token."""
        return self.head_NF[:, -2 * self.width :]


@dataclass(frozen=True)
class Hidden:
    """A batch partway through a Vision Transformer.

    Attributes:
        tokens_NSD: tokens after the last block that ran.
        block: how many blocks ran.
        prompt_tokens: how many tokens after the prefix belong to a prompt.
        collected: features of the depths reached so far.
        routing_NR: routing features, once their block ran without a prompt.
    """

    tokens_NSD: Tensor
    block: int
    prompt_tokens: int = 0
    collected: tuple[Tensor, ...] = ()
    routing_NR: Tensor | None = None

    def rows(self, index_M: Tensor) -> Hidden:
        """Some rows of the batch."""
        return replace(
            self,
            tokens_NSD=self.tokens_NSD[index_M],
            collected=tuple(features_ND[index_M] for features_ND in self.collected),
            routing_NR=None if self.routing_NR is None else self.routing_NR[index_M],
        )

    @staticmethod
    def joined(batches: Sequence[Hidden]) -> Hidden:
        """Batches at the same block as one batch."""
        routings = [batch.routing_NR for batch in batches if batch.routing_NR is not None]
        return replace(
            batches[0],
            tokens_NSD=torch.cat([batch.tokens_NSD for batch in batches]),
            collected=tuple(map(torch.cat, zip(*(batch.collected for batch in batches), strict=True))),
            routing_NR=torch.cat(routings) if routings else None,
        )


class Backbone:
    """Any timm model, frozen: features of whole images. It supports pad prompts only.

    Attributes:
        model: the timm model.
        image_px: side of its images.
        width: D, of its final features.
        routing_block: how many blocks, or stages, run before routing features are read.
    """

    def __init__(self, model: nn.Module, image_px: int, routing_block: int = 1) -> None:
        parts: Any = model
        self.model = model.eval().requires_grad_(False)
        self.image_px = image_px
        self.width = int(getattr(parts, "head_hidden_size", None) or parts.num_features)
        self.routing_block = routing_block
        self._mean, self._std = normalisation(model)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.model.parameters()).device

    def to(self, device: str) -> Backbone:
        """Move the weights to a device; returns itself."""
        self.model.to(device)
        return self

    def compile(self) -> None:
        """Have torch compile it. Raises BackboneError when it is not a Vision Transformer."""
        raise BackboneError("serving.compile needs a Vision Transformer; this backbone cannot be compiled")

    def normalise(self, images_N3PP: Tensor) -> Tensor:
        """uint8 images as float32 pixels, normalised as the backbone was trained, on its device."""
        pixels_N3PP = images_N3PP.to(self.device).float() / 255
        return (pixels_N3PP - self._mean.to(self.device)) / self._std.to(self.device)

    def features(self, images_N3PP: Tensor) -> Features:
        """Features of uint8 images."""
        return self.features_of_pixels(self.normalise(images_N3PP))

    def features_of_pixels(self, pixels_N3PP: Tensor) -> Features:
        """Features of float32 pixels: the means of every stage's maps, and the final pooled features."""
        model: Any = self.model
        final, stages = model.forward_intermediates(pixels_N3PP)
        pooled_ND = model.forward_head(final, pre_logits=True)
        means = [stage.mean(dim=(2, 3)) for stage in stages]
        return Features(torch.cat([*means, pooled_ND], dim=1), self.width)

    def routing(self, pixels_N3PP: Tensor) -> Tensor:
        """Routing features, float32 [N, R], of float32 pixels: the mean of one stage's maps; no later stage runs."""
        model: Any = self.model
        (stage,) = model.forward_intermediates(
            pixels_N3PP, indices=[self.routing_block - 1], stop_early=True, intermediates_only=True
        )
        means_NR: Tensor = stage.mean(dim=(2, 3))
        return means_NR


class VitBackbone(Backbone):
    """A timm Vision Transformer; prompt tokens can be inserted at any block."""

    def __init__(
        self,
        model: VisionTransformer,
        image_px: int,
        routing_block: int = 1,
        routing_pool: str = "patch",
        cells: int = 1,
    ):
        super().__init__(model, image_px, routing_block)
        self.vit = model
        self.block_count = len(model.blocks)
        self.width = int(model.embed_dim)
        self.prefix_tokens = int(model.num_prefix_tokens)
        self._depths = sorted({max(1, self.block_count * quarter // 4) for quarter in (1, 2, 3, 4)})
        self._routing_pool = routing_pool
        self._shares_GS = shares_of_patches(model.patch_embed.grid_size, cells)

    def compile(self) -> None:
        """Have torch compile the blocks for any number of images and tokens."""
        for block in self.vit.blocks:
            block.compile(dynamic=True)

    def begin(self, pixels_N3PP: Tensor) -> Hidden:
        """Patch and position embeddings: the tokens before block 0."""
        tokens_NSD = self.vit.patch_embed(pixels_N3PP)
        tokens_NSD = self.vit._pos_embed(tokens_NSD)
        return Hidden(self.vit.norm_pre(self.vit.patch_drop(tokens_NSD)), 0)

    def advance(self, hidden: Hidden, to_block: int) -> Hidden:
        """Run the blocks up to ``to_block``, collecting features at the quarter depths, and routing features."""
        tokens_NSD, collected, routing_NR = hidden.tokens_NSD, hidden.collected, hidden.routing_NR
        for depth in range(hidden.block + 1, to_block + 1):
            tokens_NSD = self.vit.blocks[depth - 1](tokens_NSD)
            if depth in self._depths:
                collected = (*collected, *self._pooled(tokens_NSD, hidden.prompt_tokens))
            if depth == self._depths[0] and len(self._shares_GS) > 1:
                collected = (*collected, self._in_cells(tokens_NSD, hidden.prompt_tokens))
            if depth == self.routing_block and hidden.prompt_tokens == 0:
                pooled = self._pooled(tokens_NSD, hidden.prompt_tokens)
                routing_NR = pooled[-1] if self._routing_pool == "patch" else pooled[0]
        return Hidden(tokens_NSD, to_block, hidden.prompt_tokens, collected, routing_NR)

    def insert(self, hidden: Hidden, prompt_NTD: Tensor) -> Hidden:
        """Put prompt tokens after the prefix tokens; means over patch tokens ignore them."""
        tokens_NSD, prefix = hidden.tokens_NSD, self.prefix_tokens
        joined_NSD = torch.cat([tokens_NSD[:, :prefix], prompt_NTD, tokens_NSD[:, prefix:]], dim=1)
        return Hidden(joined_NSD, hidden.block, prompt_NTD.shape[1], hidden.collected, hidden.routing_NR)

    def finish(self, hidden: Hidden) -> Features:
        """Run the remaining blocks and gather the features."""
        hidden = self.advance(hidden, self.block_count)
        return Features(torch.cat(hidden.collected, dim=1), self.width)

    def features_of_pixels(self, pixels_N3PP: Tensor) -> Features:
        """Features of float32 pixels: class token and mean patch token at the quarter depths, cells at the first."""
        return self.finish(self.begin(pixels_N3PP))

    def routing(self, pixels_N3PP: Tensor) -> Tensor:
        """Routing features, float32 [N, R], of float32 pixels, after ``routing_block`` blocks. No later block runs."""
        return self.routing_of(self.begin(pixels_N3PP))

    def routing_of(self, hidden: Hidden) -> Tensor:
        """The same of a batch that no prompt has entered; runs no block where the routing features are there."""
        assert hidden.prompt_tokens == 0
        if hidden.routing_NR is not None:
            return hidden.routing_NR
        if self._routing_pool == "patch":
            tokens_NSD = self.advance(hidden, self.routing_block - 1).tokens_NSD
            return mean_patch_after(self.vit.blocks[self.routing_block - 1], tokens_NSD, self.prefix_tokens)
        hidden = self.advance(hidden, self.routing_block)
        assert hidden.routing_NR is not None
        return hidden.routing_NR

    def _pooled(self, tokens_NSD: Tensor, prompt_tokens: int) -> tuple[Tensor, ...]:
        patches_ND = tokens_NSD[:, self.prefix_tokens + prompt_tokens :].mean(dim=1)
        return (tokens_NSD[:, 0], patches_ND) if self.prefix_tokens else (patches_ND,)

    def _in_cells(self, tokens_NSD: Tensor, prompt_tokens: int) -> Tensor:
        """The mean patch token of each cell, concatenated."""
        patches_NSD = tokens_NSD[:, self.prefix_tokens + prompt_tokens :]
        # A matrix product, because the gradient of adaptive pooling is not deterministic on a GPU.
        return (self._shares_GS.to(patches_NSD) @ patches_NSD).flatten(1)


def open_backbone(
    config: BackboneConfig,
    state: Mapping[str, Tensor] | None = None,
    routing_block: int = 1,
    routing_pool: str = "patch",
    cells: int = 1,
) -> Backbone:
    """Build the timm model and load its weights.

    Args:
        config: name, weights, image size and further arguments.
        state: weights to load instead of those that ``config.weights`` names.
        routing_block: how many blocks, or stages, run before routing features are read.
        routing_pool: "patch" or "class".
        cells: cells along each side of the image in which patch tokens are averaged; 1 for none.

    Raises:
        BackboneError: when timm does not know the name, the weights cannot be obtained or do not fit, or the
            routing block does not exist.
    """
    if state is None and config.weights == "trained":
        raise BackboneError(
            "backbone.weights is trained, but there are no trained weights: run `lmeraser pretrain` first"
        )
    if state is None and config.weights != "pretrained":
        state = read_weights(local_path(config.weights))
    model = create_model(config, pretrained=state is None)
    if state is not None:
        load_weights(model, state)
    if isinstance(model, VisionTransformer):
        model.set_input_size(img_size=(config.image_px, config.image_px))
        _check_routing_block(routing_block, len(model.blocks), "blocks")
        backbone: Backbone = VitBackbone(model, config.image_px, routing_block, routing_pool, cells)
    else:
        stages: Any = model
        _check_routing_block(routing_block, len(stages.feature_info), "stages")
        backbone = Backbone(model, config.image_px, routing_block)
    return backbone.to(config.device)


def _check_routing_block(routing_block: int, count: int, what: str) -> None:
    if not 1 <= routing_block <= count:
        raise BackboneError(f"partition.routing_block is {routing_block}; this backbone has {count} {what}")


def normalisation(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [1, 3, 1, 1] of pixels from 0 to 1, as timm states them for the model."""
    stated = getattr(model, "pretrained_cfg", None) or {}
    mean, std = (torch.tensor(stated.get(name, (0.5, 0.5, 0.5))).view(1, 3, 1, 1) for name in ("mean", "std"))
    return mean, std


def create_model(config: BackboneConfig, pretrained: bool = False, classes: int = 0) -> nn.Module:
    """The timm model at ``image_px``, with random weights or timm's own.

    Args:
        config: name, image size and further arguments.
        pretrained: whether to load timm's weights.
        classes: width of the classifier; none when 0.

    Raises:
        BackboneError: when timm does not know the name, cannot build this model, or cannot get the weights.
    """
    if not timm.is_model(config.name):
        similar = ", ".join(get_close_matches(config.name, timm.list_models(), 5)) or "see timm.list_models()"
        raise BackboneError(f"backbone.name {config.name!r} is not a timm model; similar names: {similar}")
    model = _built(config, pretrained, classes)
    if isinstance(model, VisionTransformer):
        patch_px = token_px(model)
        if config.image_px % patch_px:
            raise BackboneError(f"backbone.image_px {config.image_px} is not a multiple of the patch size {patch_px}")
        model.set_input_size(img_size=(config.image_px, config.image_px))
    elif (getattr(model, "pretrained_cfg", None) or {}).get("fixed_input_size") and "img_size" not in config.model_args:
        # Such a model accepts only the size that it is built with.
        sized = replace(config, model_args={**config.model_args, "img_size": config.image_px})
        model = _built(sized, pretrained, classes)
    return model


def _built(config: BackboneConfig, pretrained: bool, classes: int) -> nn.Module:
    try:
        arguments: dict[str, Any] = dict(config.model_args)
        return timm.create_model(config.name, pretrained=pretrained, num_classes=classes, **arguments)
    except (TypeError, ValueError, AssertionError, ArithmeticError) as error:
        raise BackboneError(f"timm cannot build {config.name} with {config.model_args}: {error}") from error
    except (OSError, RuntimeError) as error:
        raise BackboneError(
            f"cannot get the pretrained weights of {config.name} ({type(error).__name__}); "
            "set backbone.weights to a local safetensors file"
        ) from error
