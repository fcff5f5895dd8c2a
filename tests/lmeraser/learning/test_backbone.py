"""The backbone: timm's own features at several depths, and weights that are read strictly and never executed.

Legend: N rows, P pixels per side, S tokens, D width, L blocks, F raw head features.
"""

from __future__ import annotations

import os
import pickle
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lmeraser.config import BackboneConfig, PromptConfig
from lmeraser.errors import BackboneError
from lmeraser.learning.backbone import VitBackbone, create_model, open_backbone
from lmeraser.learning.prompts import prompt_kind
from lmeraser.learning.weights import read_weights, weights_of
from lmeraser.state.pipeline import extract

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


def vit_backbone(config: BackboneConfig = VIT, routing_block: int = -1, routing_pool: str = "patch") -> VitBackbone:
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


def after_block(model: nn.Module, pixels_N3PP: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Patch tokens and prefix tokens after a block, as timm itself gives them."""
    outputs = model.forward_intermediates(  # type: ignore[operator]
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


@pytest.mark.parametrize(("block", "after"), [(-1, 4), (0, 0), (2, 2), (4, 4)])
@pytest.mark.parametrize("pool", ["patch", "class"])
def test_an_image_is_routed_by_the_configured_block_and_pool(block: int, after: int, pool: str) -> None:
    backbone = vit_backbone(VIT, block, pool)
    images_N3PP = pictures(3, 32)
    patches_NSD, prefix_NSD = after_block(backbone.vit, backbone.normalise(images_N3PP), after)
    expected = patches_NSD.mean(dim=1) if pool == "patch" else prefix_NSD[:, 0]
    torch.testing.assert_close(backbone.features(images_N3PP).routing_NR, expected)


def test_a_routing_block_that_does_not_exist_is_refused_with_the_allowed_range() -> None:
    with pytest.raises(BackboneError, match=r"routing_block is 5; allowed is -1 to 4"):
        vit_backbone(VIT, routing_block=5)


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


def test_a_convolutional_network_gives_stage_means_and_final_features() -> None:
    backbone = open_backbone(CONV, weights(CONV))
    images_N3PP = pictures(3, 32)
    pixels_N3PP = backbone.normalise(images_N3PP)
    model = timm.create_model("resnet10t", num_classes=0)
    model.load_state_dict(weights(CONV))
    final_ND = model.eval()(pixels_N3PP)
    stages = model.forward_intermediates(pixels_N3PP, intermediates_only=True)
    features = backbone.features(images_N3PP)
    torch.testing.assert_close(features.routing_NR, final_ND)
    expected_NF = torch.cat([*(stage.flatten(2).mean(dim=2) for stage in stages), final_ND], dim=1)
    torch.testing.assert_close(features.head_NF, expected_NF)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_r_s16_p8_224"])
def test_a_model_of_a_fixed_size_is_built_for_the_configured_size(name: str) -> None:
    config = BackboneConfig(name, "trained", 96)
    backbone = open_backbone(config, create_model(config).state_dict())
    features = backbone.features(torch.zeros(2, 3, 96, 96, dtype=torch.uint8))
    assert len(features.head_NF) == len(features.routing_NR) == 2
    assert bool(torch.isfinite(features.head_NF).all())


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


def test_an_unknown_name_is_refused_with_similar_names() -> None:
    with pytest.raises(BackboneError, match=r"'deit_tinny_patch16_224' is not a timm model") as raised:
        open_backbone(replace(VIT, name="deit_tinny_patch16_224"), {})
    near = str(raised.value).partition("similar names: ")[2].split(", ")
    assert near[0] == "deit_tiny_patch16_224"
    assert all(map(timm.is_model, near))


def test_arguments_that_timm_does_not_take_are_named() -> None:
    with pytest.raises(BackboneError, match=r"cannot build vit_tiny_patch16_224.*no_such_argument"):
        open_backbone(replace(VIT, model_args={"no_such_argument": 1}), {})


def test_an_image_size_that_is_not_a_multiple_of_the_patch_size_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"image_px 40 is not a multiple of the patch size 16"):
        open_backbone(replace(VIT, image_px=40), weights(VIT))


def test_for_weights_that_cannot_be_fetched_the_error_says_what_to_do() -> None:
    with pytest.raises(BackboneError, match="lmeraser pretrain"):
        open_backbone(VIT)
    with pytest.raises(BackboneError, match=r"cannot get the pretrained weights.*local safetensors file"):
        open_backbone(BackboneConfig("vit_tiny_patch16_224.no_such_weights", "pretrained", 32))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_both_kinds_of_file_load_and_the_classifier_is_dropped(tmp_path: Path, suffix: str) -> None:
    state = weights(VIT, classes=7)
    assert "head.weight" in state
    backbone = open_backbone(saved_at(tmp_path, state, suffix))
    loaded = backbone.model.state_dict()
    assert set(loaded) == set(state) - {"head.weight", "head.bias"}
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)


def test_a_backbones_weights_survive_their_own_file(tmp_path: Path) -> None:
    backbone = open_backbone(CONV, weights(CONV))
    file = tmp_path / "weights.safetensors"
    file.write_bytes(weights_of(backbone.model.state_dict()))
    again = open_backbone(replace(CONV, weights=str(file)))
    images_N3PP = pictures(2, 32)
    assert torch.equal(again.features(images_N3PP).head_NF, backbone.features(images_N3PP).head_NF)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"blocks.1.attn.qkv.weight": None}, r"missing \['blocks\.1\.attn\.qkv\.weight'\]"),
        ({"blocks.9.norm1.weight": torch.zeros(32)}, r"unexpected \['blocks\.9\.norm1\.weight'\]"),
        ({"norm.weight": torch.zeros(7)}, r"size mismatch for norm\.weight"),
    ],
    ids=["missing", "unexpected", "of another shape"],
)
def test_weights_that_do_not_fit_are_refused_by_name(change: dict[str, Tensor | None], named: str) -> None:
    state = {name: tensor for name, tensor in {**weights(VIT), **change}.items() if tensor is not None}
    with pytest.raises(BackboneError, match=named):
        open_backbone(VIT, state)


@pytest.mark.parametrize("name", ["absent.safetensors", "absent.pt", "empty.safetensors", "empty.pt"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    if name.startswith("empty"):
        (tmp_path / name).touch()
    with pytest.raises(BackboneError, match=name):
        open_backbone(replace(VIT, weights=str(tmp_path / name)))


@pytest.mark.parametrize("content", [{"model": {"norm.weight": torch.ones(32)}}, [torch.ones(32)], b"hello"])
def test_a_file_without_a_state_dict_is_named(tmp_path: Path, content: object) -> None:
    file = tmp_path / "other.pt"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(BackboneError):
        open_backbone(replace(VIT, weights=str(file)))


class _Payload:
    """What an attacker would have unpickled: it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float) -> None:
    state = weights(VIT)
    state["blocks.1.norm1.weight"][3] = value
    with pytest.raises(BackboneError, match=r"the weights hold NaN or infinity: blocks\.1\.norm1\.weight \(1 in all\)"):
        open_backbone(VIT, state)


def test_a_checkpoint_of_more_than_tensors_is_refused_without_the_advice_to_run_it(tmp_path: Path) -> None:
    torch.save({"model": weights(VIT), "args": Namespace(lr=0.1)}, tmp_path / "deit.pth")
    with pytest.raises(BackboneError, match=r"deit\.pth: it holds more than tensors \(argparse\.Namespace\)") as caught:
        read_weights(tmp_path / "deit.pth")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".safetensors"])
def test_code_in_a_weights_file_is_refused_and_does_not_run(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"weights{suffix}"
    torch.save({"norm.weight": _Payload(tmp_path / "ran")}, file)
    with pytest.raises(BackboneError, match=file.name):
        read_weights(file)
    plain = tmp_path / f"plain{suffix}"
    plain.write_bytes(pickle.dumps(_Payload(tmp_path / "ran"), protocol=2))
    with pytest.raises(BackboneError, match=plain.name):
        read_weights(plain)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("config", [VITS[0], VITS[1], VITS[3]], ids=["one prefix token", "two", "positions for none"])
@pytest.mark.parametrize("side", [32, 64, 96])
def test_position_embeddings_are_resampled_from_the_size_they_were_saved_at(config: BackboneConfig, side: int) -> None:
    state = weights(replace(config, image_px=64))
    backbone = open_backbone(replace(config, image_px=side), state)
    saved_1SD, grid = state["pos_embed"], side // 16
    prefix = saved_1SD.shape[1] - 16
    square_1D44 = saved_1SD[:, prefix:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    resampled = nn.functional.interpolate(square_1D44, (grid, grid), mode="bicubic", antialias=True)
    expected_1SD = torch.cat([saved_1SD[:, :prefix], resampled.flatten(2).transpose(1, 2)], dim=1)
    torch.testing.assert_close(backbone.model.state_dict()["pos_embed"], expected_1SD)
    assert backbone.features(pictures(1, side)).head_NF.isfinite().all()


def test_real_weights_load_strictly_and_a_row_has_the_same_bits_in_any_company(data_dir: Path) -> None:
    file = data_dir / "weights" / "deit_tiny_patch16_224.safetensors"
    backbone = open_backbone(BackboneConfig("deit_tiny_patch16_224", str(file), 96))
    loaded, saved = backbone.model.state_dict(), load_file(file)
    assert set(loaded) == set(saved) - {"head.weight", "head.bias"}
    assert all(torch.equal(loaded[name], saved[name]) for name in loaded if name != "pos_embed")
    images_N3PP = pictures(7, 96).numpy()
    expected = extract(backbone, images_N3PP, 4)
    order = np.array([3, 6, 0, 5, 2, 4, 1])
    shuffled = extract(backbone, images_N3PP[order], 4)
    for row in range(7):
        alone = extract(backbone, images_N3PP[row : row + 1], 4)
        for features_NF, alone_1F, shuffled_NF in zip(expected, alone, shuffled, strict=True):
            assert features_NF[row].tobytes() == alone_1F[0].tobytes()
            assert features_NF[row].tobytes() == shuffled_NF[order == row][0].tobytes()
    assert len({features.tobytes() for features in expected[1]}) == 7
