"""Backbones that are small enough for tests, with random weights.

Legend: N rows, P pixels per side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lmeraser.config import BackboneConfig
from lmeraser.learning.backbone import VitBackbone, create_model, open_backbone

SMALL = {"embed_dim": 32, "depth": 5, "num_heads": 2}
VIT = BackboneConfig("vit_tiny_patch16_224", "trained", 32, SMALL)
CONV = BackboneConfig("resnet10t", "trained", 32)
# Two prefix tokens; none; registers alone; class token and registers, at patches of 14; a norm before the blocks.
VITS = [
    VIT,
    replace(VIT, name="deit_tiny_distilled_patch16_224"),
    replace(VIT, name="vit_base_patch16_gap_224"),
    replace(VIT, name="vit_medium_patch16_reg4_gap_256"),
    replace(VIT, name="vit_small_patch14_reg4_dinov2", image_px=28),
    replace(VIT, name="vit_xsmall_patch16_clip_224"),
]
every_vit = pytest.mark.parametrize("config", VITS, ids=[config.name for config in VITS])


def weights(config: BackboneConfig, seed: int = 0, classes: int = 0) -> dict[str, Tensor]:
    """Random weights in which no parameter is left at zero, so that each has its say."""
    model = create_model(config, classes=classes)
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.3 * torch.randn(tensor.shape, generator=generator)
        if tensor.is_floating_point() and not name.endswith("running_var")
        else tensor
        for name, tensor in model.state_dict().items()
    }


def vit_backbone(config: BackboneConfig = VIT, routing_block: int = 1, routing_pool: str = "patch") -> VitBackbone:
    backbone = open_backbone(config, weights(config), routing_block, routing_pool)
    assert isinstance(backbone, VitBackbone)
    return backbone


def pictures(number: int, image_px: int) -> Tensor:
    values = np.random.default_rng(7).integers(0, 256, (number, 3, image_px, image_px), np.uint8)
    return torch.from_numpy(values)


def saved_at(folder: Path, state: Mapping[str, Tensor], suffix: str) -> BackboneConfig:
    file = folder / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(dict(state), file)
    else:
        torch.save(dict(state), file)
    return replace(VIT, weights=str(file))
