"""The backbone: timm's own features at several depths, and weights that are read strictly and never executed.

Legend: N rows, P pixels per side, S tokens, D width, L blocks, F raw head features.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny_backbones import CONV, VIT, VITS, every_vit, pictures, vit_backbone, weights
from torch import Tensor

from lmeraser.config import BackboneConfig, PromptConfig
from lmeraser.errors import BackboneError
from lmeraser.learning.backbone import VitBackbone, create_model, open_backbone
from lmeraser.learning.prompts import prompt_kind
from lmeraser.learning.timm_models import timm


def after_block(model: Any, pixels_N3PP: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Patch tokens and prefix tokens after a block, as timm itself gives them."""
    outputs = model.forward_intermediates(
        pixels_N3PP, indices=[block], return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
    )[0]
    return outputs if isinstance(outputs, tuple) else (outputs, torch.zeros(len(outputs), 0, outputs.shape[2]))


@every_vit
def test_head_features_are_class_token_and_mean_patch_token_at_the_quarters(config: BackboneConfig) -> None:
    backbone = vit_backbone(config)
    images_N3PP = pictures(3, config.image_px)
    expected: list[Tensor] = []
    for depth in (1, 2, 3, 5):  # a quarter, half and three quarters of five blocks, and all
        patches_NSD, prefix_NSD = after_block(backbone.vit, backbone.normalise(images_N3PP), depth - 1)
        expected += [prefix_NSD[:, 0]] if prefix_NSD.shape[1] else []
        expected += [patches_NSD.mean(dim=1)]
    torch.testing.assert_close(backbone.features(images_N3PP).head_NF, torch.cat(expected, dim=1))


@every_vit
@pytest.mark.parametrize("cells", [2, 3, 16])
def test_cells_are_means_of_the_patch_tokens_of_a_part_of_the_image_after_the_first_quarter(
    config: BackboneConfig, cells: int
) -> None:
    backbone = open_backbone(config, weights(config), cells=cells)
    assert isinstance(backbone, VitBackbone)
    images_N3PP = pictures(3, config.image_px)
    patches_NSD, _ = after_block(backbone.vit, backbone.normalise(images_N3PP), 0)
    side = backbone.vit.patch_embed.grid_size[0]
    map_NDLL = patches_NSD.transpose(1, 2).unflatten(2, (side, side))
    expected_NDG = torch.nn.functional.adaptive_avg_pool2d(map_NDLL, min(cells, side)).flatten(2)
    head_NF, plain_NF = (one.features(images_N3PP).head_NF for one in (backbone, vit_backbone(config)))
    width = 32 * (2 if backbone.prefix_tokens else 1)
    cells_NF = head_NF[:, width : head_NF.shape[1] - plain_NF.shape[1] + width]
    torch.testing.assert_close(cells_NF, expected_NDG.transpose(1, 2).flatten(1))
    torch.testing.assert_close(
        torch.cat([head_NF[:, :width], head_NF[:, width + cells_NF.shape[1] :]], dim=1), plain_NF
    )


@pytest.mark.parametrize("config", VITS[:2], ids=["one prefix token", "two prefix tokens"])
def test_the_last_class_token_is_that_of_timms_own_forward(config: BackboneConfig) -> None:
    backbone = vit_backbone(config)
    images_N3PP = pictures(3, config.image_px)
    expected = backbone.vit.forward_features(backbone.normalise(images_N3PP))[:, 0]
    class_ND = backbone.features(images_N3PP).head_NF[:, -2 * 32 : -32]
    torch.testing.assert_close(backbone.vit.norm(class_ND), expected)


@pytest.mark.parametrize("blocks", [1, 3, 5])
@pytest.mark.parametrize("pool", ["patch", "class"])
def test_an_image_is_routed_by_the_configured_block_and_pool(blocks: int, pool: str) -> None:
    backbone = vit_backbone(VIT, blocks, pool)
    images_N3PP = pictures(3, 32)
    patches_NSD, prefix_NSD = after_block(backbone.vit, backbone.normalise(images_N3PP), blocks - 1)
    expected = patches_NSD.mean(dim=1) if pool == "patch" else prefix_NSD[:, 0]
    torch.testing.assert_close(backbone.routing(backbone.normalise(images_N3PP)), expected)


@every_vit
def test_the_mean_patch_token_is_that_of_the_whole_block_for_less_work(config: BackboneConfig) -> None:
    backbone = vit_backbone(config, 2)
    pixels_N3PP = backbone.normalise(pictures(3, config.image_px))
    rows: list[int] = []
    mlp: Any = backbone.vit.blocks[1].mlp
    hook = mlp.fc2.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].numel() // inputs[0].shape[-1]))
    routing_ND = backbone.routing(pixels_N3PP)
    hook.remove()
    torch.testing.assert_close(routing_ND, after_block(backbone.vit, pixels_N3PP, 1)[0].mean(dim=1))
    assert rows == [3]


def test_a_routing_block_that_does_not_exist_is_refused_with_the_number_of_blocks() -> None:
    with pytest.raises(BackboneError, match=r"routing_block is 6; this backbone has 5 blocks"):
        vit_backbone(VIT, routing_block=6)
    with pytest.raises(BackboneError, match=r"routing_block is 6; this backbone has 5 stages"):
        open_backbone(CONV, weights(CONV), routing_block=6)


@every_vit
@pytest.mark.parametrize(
    "prompt",
    [PromptConfig("token", tokens=3), PromptConfig("token", tokens=3, depth=3), PromptConfig("pad", pad_px=4)],
    ids=["token at the input", "token at block 3", "pad"],
)
def test_every_prompt_kind_fits_every_vit(config: BackboneConfig, prompt: PromptConfig) -> None:
    backbone = vit_backbone(config)
    pixels_N3PP = backbone.normalise(pictures(2, config.image_px))
    plain = backbone.features_of_pixels(pixels_N3PP)
    kind = prompt_kind(prompt, backbone)
    prompts_N = torch.full((2, *kind.shape), 0.5)
    features = kind.features(pixels_N3PP, prompts_N)
    assert features.head_NF.shape == plain.head_NF.shape
    # The last block is above every prompt; blocks below the one where it enters are not touched.
    assert not torch.allclose(features.head_NF[:, -32:], plain.head_NF[:, -32:], rtol=1e-3)
    assert torch.equal(features.head_NF[:, :32], plain.head_NF[:, :32]) == (prompt.depth == 3)


@pytest.mark.slow
def test_a_convolutional_network_gives_stage_means_and_final_features() -> None:
    backbone = open_backbone(CONV, weights(CONV))
    images_N3PP = pictures(3, 32)
    pixels_N3PP = backbone.normalise(images_N3PP)
    model: Any = timm.create_model("resnet10t", num_classes=0)
    model.load_state_dict(weights(CONV))
    final_ND = model.eval()(pixels_N3PP)
    stages = model.forward_intermediates(pixels_N3PP, intermediates_only=True)
    features = backbone.features(images_N3PP)
    expected_NF = torch.cat([*(stage.flatten(2).mean(dim=2) for stage in stages), final_ND], dim=1)
    torch.testing.assert_close(features.deepest_ND, expected_NF[:, -2 * final_ND.shape[1] :])
    for number, stage in enumerate(stages, start=1):
        routed = open_backbone(CONV, weights(CONV), routing_block=number)
        torch.testing.assert_close(routed.routing(pixels_N3PP), stage.flatten(2).mean(dim=2))
    torch.testing.assert_close(features.head_NF, expected_NF)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_r_s16_p8_224"])
def test_a_model_of_a_fixed_size_is_built_for_the_configured_size(name: str) -> None:
    config = BackboneConfig(name, "trained", 96)
    backbone = open_backbone(config, create_model(config).state_dict())
    images_N3PP = torch.zeros(2, 3, 96, 96, dtype=torch.uint8)
    features, routing_NR = backbone.features(images_N3PP), backbone.routing(backbone.normalise(images_N3PP))
    assert len(features.head_NF) == len(routing_NR) == 2
    assert bool(torch.isfinite(features.head_NF).all()) and bool(torch.isfinite(routing_NR).all())
    assert features.deepest_ND.shape[1] == 2 * backbone.width


def test_position_embeddings_of_a_hybrid_are_resampled() -> None:
    saved = create_model(BackboneConfig("vit_tiny_r_s16_p8_224", "trained", 224)).state_dict()
    backbone = open_backbone(BackboneConfig("vit_tiny_r_s16_p8_224", "trained", 96), saved)
    assert torch.isfinite(backbone.features(torch.zeros(1, 3, 96, 96, dtype=torch.uint8)).head_NF).all()


def test_a_convolutional_network_supports_a_pad_prompt_and_no_tokens() -> None:
    backbone = open_backbone(CONV, weights(CONV))
    assert prompt_kind(PromptConfig("pad", pad_px=4), backbone).shape == (3, 32, 32)
    with pytest.raises(BackboneError, match=r"token needs a Vision Transformer.*pad"):
        prompt_kind(PromptConfig("token"), backbone)


def test_pixels_are_normalised_as_timm_trained_the_model() -> None:
    images_N3PP = pictures(2, 32)
    share_N3PP = images_N3PP.numpy() / 255
    plain = open_backbone(VIT, weights(VIT)).normalise(images_N3PP)
    np.testing.assert_allclose(plain.numpy(), (share_N3PP - 0.5) / 0.5, rtol=0, atol=1e-6)
    imagenet = open_backbone(CONV, weights(CONV)).normalise(images_N3PP)
    mean, std = (np.reshape(figures, (3, 1, 1)) for figures in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    np.testing.assert_allclose(imagenet.numpy(), (share_N3PP - mean) / std, rtol=0, atol=1e-6)


def test_a_backbone_is_frozen_and_in_evaluation_mode() -> None:
    model = open_backbone(CONV, weights(CONV)).model
    assert not any(part.requires_grad for part in model.parameters()) and not model.training
