"""The frozen backbone: a timm model that gives features at several depths.

Legend: N rows, P pixels a side, S tokens, T prompt tokens, D width, L blocks, R routing features, F raw head
features, G cells.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lmeraser.config import BackboneConfig
from lmeraser.errors import BackboneError
from lmeraser.learning.cells import shares_of_patches
from lmeraser.store.location import local_path

# What torch.load raises on bytes that are no file of its own.
_UNREADABLE = (ValueError, EOFError, LookupError, TypeError, AttributeError, struct.error)


@dataclass(frozen=True)
class Features:
    """What the backbone says of a batch.

    Attributes:
        routing_NR: float32, by which rows find their anchor.
        head_NF: float32, what the heads see, before the public projection.
    """

    routing_NR: Tensor
    head_NF: Tensor


@dataclass(frozen=True)
class Hidden:
    """A batch on its way through a Vision Transformer.

    Attributes:
        tokens_NSD: tokens after block ``block``.
        block: blocks run so far.
        prompt_tokens: tokens after the prefix that belong to a prompt.
        collected: features of the depths passed so far.
        routing_NR: routing features, once their block is passed.
    """

    tokens_NSD: Tensor
    block: int
    prompt_tokens: int = 0
    collected: tuple[Tensor, ...] = ()
    routing_NR: Tensor | None = None


class Backbone:
    """Any timm model, frozen: features of whole images. Only a pad prompt fits it."""

    def __init__(self, model: nn.Module, image_px: int) -> None:
        self.model = model.eval().requires_grad_(False)
        self.image_px = image_px
        self._mean, self._std = normalisation(model)

    @property
    def device(self) -> torch.device:
        """Where rows go through it."""
        return next(self.model.parameters()).device

    def to(self, device: str) -> Backbone:
        """Move the weights; returns itself."""
        self.model.to(device)
        return self

    def compile(self) -> None:
        """Have torch compile it. Raises BackboneError when it is no Vision Transformer."""
        raise BackboneError("serving.compile needs a Vision Transformer; this backbone runs as it is")

    def normalise(self, images_N3PP: Tensor) -> Tensor:
        """uint8 images to float32 pixels as the backbone was trained on, on its device."""
        pixels_N3PP = images_N3PP.to(self.device).float() / 255
        return (pixels_N3PP - self._mean.to(self.device)) / self._std.to(self.device)

    def features(self, images_N3PP: Tensor) -> Features:
        """Features of uint8 images."""
        return self.features_of_pixels(self.normalise(images_N3PP))

    def features_of_pixels(self, pixels_N3PP: Tensor) -> Features:
        """Features of float32 pixels: the means of every stage's maps, and the final pooled features."""
        model: Any = self.model
        final, stages = model.forward_intermediates(pixels_N3PP)
        pooled_NR = model.forward_head(final, pre_logits=True)
        means = [stage.mean(dim=(2, 3)) for stage in stages]
        return Features(pooled_NR, torch.cat([*means, pooled_NR], dim=1))


class VitBackbone(Backbone):
    """A timm Vision Transformer, whose tokens a prompt may join at any block."""

    def __init__(
        self,
        model: VisionTransformer,
        image_px: int,
        routing_block: int = -1,
        routing_pool: str = "patch",
        cells: int = 1,
    ):
        super().__init__(model, image_px)
        self.vit = model
        self.block_count = len(model.blocks)
        self.width = int(model.embed_dim)
        self.prefix_tokens = int(model.num_prefix_tokens)
        self._depths = sorted({max(1, self.block_count * quarter // 4) for quarter in (1, 2, 3, 4)})
        self._routing_depth = self.block_count if routing_block == -1 else routing_block + 1
        self._routing_pool = routing_pool
        self._shares_GS = shares_of_patches(model.patch_embed.grid_size, cells)

    def compile(self) -> None:
        """Have torch compile the blocks, for any number of images and tokens."""
        for block in self.vit.blocks:
            block.compile(dynamic=True)

    def begin(self, pixels_N3PP: Tensor) -> Hidden:
        """Patch and position embeddings: the tokens before block 0."""
        tokens_NSD = self.vit.patch_embed(pixels_N3PP)
        tokens_NSD = self.vit._pos_embed(tokens_NSD)
        return Hidden(self.vit.norm_pre(self.vit.patch_drop(tokens_NSD)), 0)

    def advance(self, hidden: Hidden, to_block: int) -> Hidden:
        """Run the blocks up to ``to_block``, collecting features at the quarter depths."""
        tokens_NSD, collected, routing_NR = hidden.tokens_NSD, hidden.collected, hidden.routing_NR
        for depth in range(hidden.block + 1, to_block + 1):
            tokens_NSD = self.vit.blocks[depth - 1](tokens_NSD)
            if depth in self._depths:
                collected = (*collected, *self._pooled(tokens_NSD, hidden.prompt_tokens))
            if depth == self._depths[0] and len(self._shares_GS) > 1:
                collected = (*collected, self._in_cells(tokens_NSD, hidden.prompt_tokens))
            if depth == self._routing_depth:
                pooled = self._pooled(tokens_NSD, hidden.prompt_tokens)
                routing_NR = pooled[-1] if self._routing_pool == "patch" else pooled[0]
        return Hidden(tokens_NSD, to_block, hidden.prompt_tokens, collected, routing_NR)

    def insert(self, hidden: Hidden, prompt_NTD: Tensor) -> Hidden:
        """Put prompt tokens after the prefix tokens; patch means leave them out."""
        tokens_NSD, prefix = hidden.tokens_NSD, self.prefix_tokens
        joined_NSD = torch.cat([tokens_NSD[:, :prefix], prompt_NTD, tokens_NSD[:, prefix:]], dim=1)
        return Hidden(joined_NSD, hidden.block, prompt_NTD.shape[1], hidden.collected, hidden.routing_NR)

    def finish(self, hidden: Hidden) -> Features:
        """Run what is left of the blocks, and gather the features."""
        hidden = self.advance(hidden, self.block_count)
        assert hidden.routing_NR is not None
        return Features(hidden.routing_NR, torch.cat(hidden.collected, dim=1))

    def features_of_pixels(self, pixels_N3PP: Tensor) -> Features:
        """Features of float32 pixels: class token and mean patch token at the quarter depths, cells at the first."""
        return self.finish(self.begin(pixels_N3PP))

    def _pooled(self, tokens_NSD: Tensor, prompt_tokens: int) -> tuple[Tensor, ...]:
        patches_ND = tokens_NSD[:, self.prefix_tokens + prompt_tokens :].mean(dim=1)
        return (tokens_NSD[:, 0], patches_ND) if self.prefix_tokens else (patches_ND,)

    def _in_cells(self, tokens_NSD: Tensor, prompt_tokens: int) -> Tensor:
        """The mean patch token of each cell, cell after cell."""
        patches_NSD = tokens_NSD[:, self.prefix_tokens + prompt_tokens :]
        # A product and no adaptive pooling, whose gradient on a GPU is not deterministic.
        return (self._shares_GS.to(patches_NSD) @ patches_NSD).flatten(1)


def open_backbone(
    config: BackboneConfig,
    state: Mapping[str, Tensor] | None = None,
    routing_block: int = -1,
    routing_pool: str = "patch",
    cells: int = 1,
) -> Backbone:
    """Build the timm model and load its weights.

    Args:
        config: name, weights, image size and further arguments.
        state: weights to load instead of those that ``config.weights`` names.
        routing_block: block whose tokens route an image; -1 is the last.
        routing_pool: "patch" or "class".
        cells: a side of the image has so many cells in which patch tokens are averaged; 1 for none.

    Raises:
        BackboneError: when timm does not know the name, the weights cannot be had or do not fit, or the
            routing block does not exist.
    """
    if state is None and config.weights == "trained":
        raise BackboneError("backbone.weights is trained, but nothing was trained: run `lmeraser pretrain` first")
    if state is None and config.weights != "pretrained":
        state = read_weights(local_path(config.weights))
    model = create_model(config, pretrained=state is None)
    if state is not None:
        _load(model, state)
    if isinstance(model, VisionTransformer):
        model.set_input_size(img_size=(config.image_px, config.image_px))
        if routing_block >= len(model.blocks):
            raise BackboneError(f"partition.routing_block is {routing_block}; allowed is -1 to {len(model.blocks) - 1}")
        backbone: Backbone = VitBackbone(model, config.image_px, routing_block, routing_pool, cells)
    else:
        backbone = Backbone(model, config.image_px)
    return backbone.to(config.device)


def read_weights(file: Path) -> dict[str, Tensor]:
    """A state dict from a safetensors file, or from any other with ``torch.load(weights_only=True)``.

    Raises:
        BackboneError: when the file cannot be read.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        # torch's own message advises to run what the file holds.
        kind = re.search(r"GLOBAL (\S+)", str(error))
        what = f"holds more than tensors ({kind[1]})" if kind else "is no file of tensors"
        raise BackboneError(f"cannot read the weights {file}: it {what}; save the state dict alone") from error
    except (OSError, SafetensorError, RuntimeError, *_UNREADABLE) as error:
        raise BackboneError(f"cannot read the weights {file}: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise BackboneError(f"{file} holds no plain state dict: a name and a tensor for each weight are needed")
    return state


def weights_of(state: Mapping[str, Tensor]) -> bytes:
    """A state dict as a safetensors file."""
    return save({name: tensor.contiguous().cpu() for name, tensor in state.items()})


def normalisation(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and deviation [1, 3, 1, 1] of the pixels, from 0 to 1, that timm gives the model."""
    given = getattr(model, "pretrained_cfg", None) or {}
    mean, std = (torch.tensor(given.get(name, (0.5, 0.5, 0.5))).view(1, 3, 1, 1) for name in ("mean", "std"))
    return mean, std


def create_model(config: BackboneConfig, pretrained: bool = False, classes: int = 0) -> nn.Module:
    """The timm model at ``image_px``, with random weights or timm's own.

    Args:
        config: name, image size and further arguments.
        pretrained: whether to load timm's weights.
        classes: width of the classifier; none when 0.

    Raises:
        BackboneError: when timm does not know the name, cannot build it so, or cannot get the weights.
    """
    if not timm.is_model(config.name):
        near = ", ".join(get_close_matches(config.name, timm.list_models(), 5)) or "see timm.list_models()"
        raise BackboneError(f"backbone.name {config.name!r} is not a timm model; near it: {near}")
    model = _built(config, pretrained, classes)
    if isinstance(model, VisionTransformer):
        side = _token_px(model)
        if config.image_px % side:
            raise BackboneError(f"backbone.image_px {config.image_px} is no multiple of the patch size {side}")
        model.set_input_size(img_size=(config.image_px, config.image_px))
    elif (getattr(model, "pretrained_cfg", None) or {}).get("fixed_input_size") and "img_size" not in config.model_args:
        # Such a model takes the size that it is built with and no other.
        sized = replace(config, model_args={**config.model_args, "img_size": config.image_px})
        model = _built(sized, pretrained, classes)
    return model


def _token_px(model: VisionTransformer) -> int:
    """Pixels a side that one token stands for; a hybrid's stem shrinks the image before it is cut into patches."""
    return int(model.patch_embed.img_size[0] // model.patch_embed.grid_size[0])


def _built(config: BackboneConfig, pretrained: bool, classes: int) -> nn.Module:
    try:
        arguments: dict[str, Any] = dict(config.model_args)
        return timm.create_model(config.name, pretrained=pretrained, num_classes=classes, **arguments)
    except (TypeError, ValueError, AssertionError, ArithmeticError) as error:
        raise BackboneError(f"timm cannot build {config.name} with {config.model_args}: {error}") from error
    except (OSError, RuntimeError) as error:
        raise BackboneError(
            f"the pretrained weights of {config.name} cannot be had ({type(error).__name__}); "
            "give backbone.weights a local safetensors file"
        ) from error


def _load(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    classifier = tuple(f"{name}." for name in ("head", "head_dist", "fc", "classifier"))
    wanted = model.state_dict()
    kept = {name: tensor.float() for name, tensor in state.items() if name in wanted or not name.startswith(classifier)}
    _resize_positions(model, kept)
    try:
        missing, unexpected = model.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise BackboneError(f"the weights do not fit the model: {str(error).splitlines()[-1].strip()}") from error
    if missing or unexpected:
        raise BackboneError(f"the weights do not fit the model: missing {missing[:3]}, unexpected {unexpected[:3]}")
    spoilt = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if spoilt:
        raise BackboneError(f"the weights hold NaN or infinity: {', '.join(spoilt[:3])} ({len(spoilt)} in all)")


def _resize_positions(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Weights saved at another image size: give the model that size first."""
    positions = state.get("pos_embed")
    if not isinstance(model, VisionTransformer) or positions is None or model.pos_embed is None:
        return
    if positions.shape != model.pos_embed.shape:
        prefix = 0 if model.no_embed_class else model.num_prefix_tokens
        side = round((positions.shape[1] - prefix) ** 0.5)
        size = side * _token_px(model)
        model.set_input_size(img_size=(size, size))
