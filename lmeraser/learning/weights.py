"""Weights of a backbone: read from files, written, and put into a model."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from lmeraser.errors import BackboneError
from lmeraser.learning.timm_models import VisionTransformer

# What torch.load raises on bytes that it did not write.
_UNREADABLE = (ValueError, EOFError, LookupError, TypeError, AttributeError, struct.error)


def read_weights(file: Path) -> dict[str, Tensor]:
    """A state dict from a safetensors file, or from any other file with ``torch.load(weights_only=True)``.

    Raises:
        BackboneError: when the file cannot be read.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        # torch's own message advises to execute what is in the file.
        kind = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"it holds more than tensors ({kind[1]})" if kind else "it is not a file of tensors"
        raise BackboneError(f"cannot read the weights {file}: {reason}; save the state dict alone") from error
    except (OSError, SafetensorError, RuntimeError, *_UNREADABLE) as error:
        raise BackboneError(f"cannot read the weights {file}: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise BackboneError(f"{file} is not a plain state dict, which maps the name of each weight to a tensor")
    return state


def weights_of(state: Mapping[str, Tensor]) -> bytes:
    """A state dict as a safetensors file."""
    return save({name: tensor.contiguous().cpu() for name, tensor in state.items()})


def load_weights(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Put weights into a model, without a classifier that it does not have.

    Raises:
        BackboneError: when they do not fit the model, or are not finite.
    """
    classifier = tuple(f"{name}." for name in ("head", "head_dist", "fc", "classifier"))
    expected = model.state_dict()
    kept = {
        name: tensor.float() for name, tensor in state.items() if name in expected or not name.startswith(classifier)
    }
    _resize_positions(model, kept)
    try:
        missing, unexpected = model.load_state_dict(kept, strict=False)
    except RuntimeError as error:
        raise BackboneError(f"the weights do not fit the model: {str(error).splitlines()[-1].strip()}") from error
    if missing or unexpected:
        raise BackboneError(f"the weights do not fit the model: missing {missing[:3]}, unexpected {unexpected[:3]}")
    broken = [name for name, weight in model.named_parameters() if not torch.isfinite(weight).all()]
    if broken:
        raise BackboneError(f"the weights hold NaN or infinity: {', '.join(broken[:3])} ({len(broken)} in all)")


def token_px(model: VisionTransformer) -> int:
    """Pixels per side that one token covers; a hybrid's stem shrinks the image before it is cut into patches."""
    return int(model.patch_embed.img_size[0] // model.patch_embed.grid_size[0])


def _resize_positions(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Weights saved at another image size: give the model that size first."""
    positions = state.get("pos_embed")
    if not isinstance(model, VisionTransformer) or positions is None or model.pos_embed is None:
        return
    if positions.shape != model.pos_embed.shape:
        prefix = 0 if model.no_embed_class else model.num_prefix_tokens
        side = round((positions.shape[1] - prefix) ** 0.5)
        size = side * token_px(model)
        model.set_input_size(img_size=(size, size))
