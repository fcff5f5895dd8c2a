"""Prompts: how a frame of pixels and learned tokens enter the backbone, and what they leave alone.

Legend: N rows, P pixels per side, S tokens, T prompt tokens, D width, F raw head features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lmeraser.config import BackboneConfig, PromptConfig
from lmeraser.errors import BackboneError
from lmeraser.learning.backbone import Backbone, Features, VitBackbone, open_backbone
from lmeraser.learning.prompts import PromptKind, prompt_kind
from lmeraser.learning.timm_models import timm

SIDE = 32
VIT = BackboneConfig("vit_tiny_patch16_224", "trained", SIDE, {"embed_dim": 32, "depth": 4, "num_heads": 2})
DISTILLED = replace(VIT, name="deit_tiny_distilled_patch16_224")
CONV = BackboneConfig("resnet10t", "trained", SIDE)
PAD = PromptConfig("pad", pad_px=4)
INPUT = PromptConfig("token", tokens=3)
DEEP = PromptConfig("token", tokens=3, depth=2)

BackboneOf = Callable[[BackboneConfig], Backbone]
every_prompt = pytest.mark.parametrize("prompt", [PAD, INPUT, DEEP], ids=["pad", "token at the input", "token at 2"])
every_backbone = pytest.mark.parametrize("config", [VIT, CONV], ids=["vit", "conv"])
every_vit = pytest.mark.parametrize("config", [VIT, DISTILLED], ids=["one prefix token", "two prefix tokens"])


@pytest.fixture(scope="module")
def backbone_of() -> BackboneOf:
    """Backbones by their timm name, opened once."""
    opened: dict[str, Backbone] = {}

    def get(config: BackboneConfig) -> Backbone:
        if config.name not in opened:
            arguments: dict[str, Any] = {"num_classes": 0, **config.model_args}
            model = timm.create_model(config.name, **arguments)
            generator = torch.Generator().manual_seed(3)
            state = {
                name: 0.2 * torch.randn(tensor.shape, generator=generator)
                if tensor.is_floating_point() and not name.endswith("running_var")
                else tensor
                for name, tensor in model.state_dict().items()
            }
            opened[config.name] = open_backbone(config, state, cells=2)
        return opened[config.name]

    return get


def pixels(number: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(5).normal(size=(number, 3, SIDE, SIDE)).astype(np.float32))


def random_prompts(kind: PromptKind, number: int) -> Tensor:
    values = np.random.default_rng(6).normal(size=(number, *kind.shape))
    return torch.from_numpy(values.astype(np.float32))


def same_bits(one: Features, other: Features) -> bool:
    return torch.equal(one.head_NF, other.head_NF) and one.width == other.width


def prompted(backbone: VitBackbone, pixels_N3PP: Tensor, prompts_NTD: Tensor, depth: int) -> Tensor:
    """VPT, section 3.2, from the model's own parts: head features of four blocks, read after each of them."""
    vit = backbone.vit
    prefix_1SD = torch.cat([part for part in (vit.cls_token, getattr(vit, "dist_token", None)) if part is not None], 1)
    prefix = prefix_1SD.shape[1]
    assert vit.pos_embed is not None
    patches_NSD = vit.patch_embed.proj(pixels_N3PP).flatten(2).transpose(1, 2)
    tokens_NSD = torch.cat([prefix_1SD.expand(len(pixels_N3PP), -1, -1), patches_NSD], dim=1) + vit.pos_embed
    pooled: list[Tensor] = []
    for number, block in enumerate(vit.blocks):
        if number == depth:
            tokens_NSD = torch.cat([tokens_NSD[:, :prefix], prompts_NTD, tokens_NSD[:, prefix:]], dim=1)
        tokens_NSD = block(tokens_NSD)
        left_NSD = tokens_NSD[:, -patches_NSD.shape[1] :]
        pooled += [tokens_NSD[:, 0], left_NSD.mean(dim=1)]
        if number == 0:
            map_NDLL = left_NSD.transpose(1, 2).unflatten(2, vit.patch_embed.grid_size)
            pooled += nn.functional.adaptive_avg_pool2d(map_NDLL, 2).flatten(2).unbind(2)
    return torch.cat(pooled, dim=1)


@every_backbone
def test_values_inside_the_frame_of_a_pad_prompt_change_no_bit(backbone_of: BackboneOf, config: BackboneConfig) -> None:
    kind = prompt_kind(PAD, backbone_of(config))
    prompts_N3PP = random_prompts(kind, 2)
    before = kind.features(pixels(2), prompts_N3PP)
    changed_N3PP = prompts_N3PP.clone()
    changed_N3PP[:, :, 4:-4, 4:-4] += 100
    assert same_bits(kind.features(pixels(2), changed_N3PP), before)


@every_backbone
@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 15), (28, 16), (31, 31), (15, 3), (16, 28), (3, 3), (28, 28)])
def test_every_side_of_the_frame_is_added(
    backbone_of: BackboneOf, config: BackboneConfig, row: int, column: int
) -> None:
    backbone = backbone_of(config)
    kind = prompt_kind(PAD, backbone)
    prompts_N3PP = torch.zeros(2, 3, SIDE, SIDE)
    prompts_N3PP[:, 1, row, column] = 3
    features = kind.features(pixels(2), prompts_N3PP)
    assert not torch.equal(features.head_NF, backbone.features_of_pixels(pixels(2)).head_NF)
    expected_N3PP = pixels(2)
    expected_N3PP[:, 1, row, column] += 3
    assert same_bits(features, backbone.features_of_pixels(expected_N3PP))


@every_backbone
def test_a_pad_prompt_starts_as_no_prompt(backbone_of: BackboneOf, config: BackboneConfig) -> None:
    backbone = backbone_of(config)
    kind = prompt_kind(PAD, backbone)
    prompts_N3PP = kind.start(9).expand(2, *kind.shape)
    assert not prompts_N3PP.any()
    assert same_bits(kind.features(pixels(2), prompts_N3PP), backbone.features_of_pixels(pixels(2)))


@every_vit
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_tokens_enter_after_the_prefix_and_are_ignored_by_patch_means(
    backbone_of: BackboneOf, config: BackboneConfig, depth: int
) -> None:
    backbone = backbone_of(config)
    assert isinstance(backbone, VitBackbone)
    kind = prompt_kind(replace(INPUT, depth=depth), backbone)
    prompts_NTD = random_prompts(kind, 2)
    features = kind.features(pixels(2), prompts_NTD)
    expected_NF = prompted(backbone, pixels(2), prompts_NTD, depth)
    torch.testing.assert_close(features.head_NF, expected_NF)
    torch.testing.assert_close(features.deepest_ND, expected_NF[:, -2 * backbone.width :])


@every_prompt
@pytest.mark.parametrize("routing_block", [1, 2, 3, 4])
def test_routing_features_depend_on_no_prompt(
    backbone_of: BackboneOf, prompt: PromptConfig, routing_block: int
) -> None:
    backbone = backbone_of(VIT)
    assert isinstance(backbone, VitBackbone)
    routed = VitBackbone(backbone.vit, SIDE, routing_block, "class")
    lower = prompt_kind(prompt, routed).lower(pixels(2))
    model: Any = backbone.vit
    outputs = model.forward_intermediates(
        pixels(2), indices=[routing_block - 1], return_prefix_tokens=True, intermediates_only=True
    )
    prefix_NSD = outputs[0][1]
    torch.testing.assert_close(lower.routing(), prefix_NSD[:, 0])
    prompts_N = random_prompts(prompt_kind(prompt, routed), 2)
    head_NF = lower.features(prompts_N).head_NF
    torch.testing.assert_close(lower.routing(), prefix_NSD[:, 0])
    torch.testing.assert_close(prompt_kind(prompt, routed).features(pixels(2), prompts_N).head_NF, head_NF)


@every_prompt
@pytest.mark.parametrize("pool", ["patch", "class"])
@pytest.mark.parametrize("routing_block", [1, 2, 3])
def test_routing_features_alone_are_the_same_and_need_no_later_block(
    backbone_of: BackboneOf, prompt: PromptConfig, pool: str, routing_block: int
) -> None:
    backbone = backbone_of(VIT)
    assert isinstance(backbone, VitBackbone)
    routed = VitBackbone(backbone.vit, SIDE, routing_block, pool)
    kind = prompt_kind(prompt, routed)
    expected_NR = kind.lower(pixels(2)).routing()
    runs: list[nn.Module] = []
    blocks: Any = backbone.vit.blocks
    hooks = [block.attn.register_forward_hook(lambda attn, *_: runs.append(attn)) for block in blocks]
    alone_NR = kind.routing(pixels(2))
    for hook in hooks:
        hook.remove()
    assert torch.equal(alone_NR, expected_NR)
    assert len(runs) == routing_block


@pytest.mark.parametrize(
    ("prompt", "routing_block", "expected"), [(DEEP, 1, 4), (DEEP, 2, 4), (DEEP, 3, 5), (INPUT, 1, 5), (PAD, 1, 5)]
)
def test_blocks_below_the_prompt_run_once_for_routing_and_features(
    backbone_of: BackboneOf, prompt: PromptConfig, routing_block: int, expected: int
) -> None:
    backbone = backbone_of(VIT)
    assert isinstance(backbone, VitBackbone)
    routed = VitBackbone(backbone.vit, SIDE, routing_block)
    kind = prompt_kind(prompt, routed)
    runs: list[nn.Module] = []
    blocks: Any = backbone.vit.blocks
    hooks = [block.attn.register_forward_hook(lambda attn, *_: runs.append(attn)) for block in blocks]
    lower = kind.lower(pixels(2))
    lower.routing()
    lower.features(random_prompts(kind, 2))
    for hook in hooks:
        hook.remove()
    assert len(runs) == expected


@every_prompt
def test_each_image_of_a_batch_has_its_own_prompt(backbone_of: BackboneOf, prompt: PromptConfig) -> None:
    kind = prompt_kind(prompt, backbone_of(VIT))
    pixels_N3PP, prompts_N = pixels(4), random_prompts(kind, 4)
    together = kind.features(pixels_N3PP, prompts_N)
    for row in range(4):
        alone = kind.features(pixels_N3PP[row : row + 1], prompts_N[row : row + 1])
        torch.testing.assert_close(together.head_NF[row], alone.head_NF[0])
        # In a batch of the same shape the neighbours do not move a bit.
        filled = kind.features(pixels_N3PP[[row] * 4], prompts_N[[row] * 4])
        assert torch.equal(together.head_NF[row], filled.head_NF[row])
    swapped = kind.features(pixels_N3PP, prompts_N.flip(0))
    assert not torch.allclose(swapped.head_NF, together.head_NF, rtol=1e-3)


@every_prompt
def test_the_start_depends_on_the_seed_alone(backbone_of: BackboneOf, prompt: PromptConfig) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first = prompt_kind(prompt, backbone_of(VIT)).start(7)
    torch.rand(3)
    np.random.seed(2)
    again = prompt_kind(prompt, backbone_of(VIT)).start(7)
    assert first.dtype == torch.float32
    assert torch.equal(first, again)
    assert first.shape == prompt_kind(prompt, backbone_of(VIT)).shape


def test_tokens_start_small_and_other_seeds_give_others(backbone_of: BackboneOf) -> None:
    kind = prompt_kind(replace(INPUT, tokens=200), backbone_of(VIT))
    starts = [kind.start(seed) for seed in range(3)]
    assert not torch.equal(starts[0], starts[1]) and not torch.equal(starts[1], starts[2])
    for start_TD in starts:
        assert start_TD.std().item() == pytest.approx(0.02, rel=0.05)
        assert abs(start_TD.mean().item()) < 0.002


def test_start_prompts_keep_their_values_from_version_to_version(backbone_of: BackboneOf) -> None:
    # Every prompt of every store begins here: other values would make each of them differ from a fresh run.
    start = prompt_kind(replace(INPUT, tokens=1), backbone_of(VIT)).start(0)[0, :3].tolist()
    assert start == pytest.approx([0.04880426079, -0.02723485976, -0.02901577018], abs=1e-9)


@every_backbone
def test_a_frame_without_an_inside_is_refused_with_the_allowed_range(
    backbone_of: BackboneOf, config: BackboneConfig
) -> None:
    assert prompt_kind(replace(PAD, pad_px=15), backbone_of(config)).shape == (3, SIDE, SIDE)
    with pytest.raises(BackboneError, match=r"pad_px is 16; at image_px 32 allowed is 1 to 15"):
        prompt_kind(replace(PAD, pad_px=16), backbone_of(config))


def test_the_frames_bounds_hold_at_an_odd_size(backbone_of: BackboneOf) -> None:
    backbone = Backbone(backbone_of(CONV).model, 33)
    assert prompt_kind(replace(PAD, pad_px=16), backbone).shape == (3, 33, 33)
    with pytest.raises(BackboneError, match="allowed is 1 to 16"):
        prompt_kind(replace(PAD, pad_px=17), backbone)


def test_a_depth_that_does_not_exist_is_refused_with_the_allowed_range(backbone_of: BackboneOf) -> None:
    assert prompt_kind(replace(DEEP, depth=3), backbone_of(VIT)).enters_at == 3
    with pytest.raises(BackboneError, match=r"depth is 4; allowed is 0 to 3"):
        prompt_kind(replace(DEEP, depth=4), backbone_of(VIT))


def test_tokens_on_a_convolutional_network_are_refused(backbone_of: BackboneOf) -> None:
    with pytest.raises(BackboneError, match=r"token needs a Vision Transformer"):
        prompt_kind(INPUT, backbone_of(CONV))


@every_prompt
def test_a_lower_part_can_be_joined_and_divided_without_a_change_of_features(
    backbone_of: BackboneOf, prompt: PromptConfig
) -> None:
    backbone = backbone_of(VIT)
    kind = prompt_kind(prompt, backbone)
    prompts_N = torch.stack([kind.start(seed) + seed for seed in range(4)])
    expected = kind.features(pixels(4), prompts_N)
    halves = [kind.lower(pixels(4)[:2]), kind.lower(pixels(4)[2:])]
    joined = halves[0].joined(halves[1:])
    torch.testing.assert_close(joined.features(prompts_N).head_NF, expected.head_NF)
    index_M = torch.tensor([3, 1])
    some = kind.lower(pixels(4)).rows(index_M).features(prompts_N[index_M])
    torch.testing.assert_close(some.head_NF, expected.head_NF[index_M])
    torch.testing.assert_close(joined.routing(), kind.lower(pixels(4)).routing())
    torch.testing.assert_close(kind.lower(pixels(4)).rows(index_M).routing(), joined.routing()[index_M])
    assert same_bits(kind.lower(pixels(4)).plain(), backbone.features_of_pixels(pixels(4)))
