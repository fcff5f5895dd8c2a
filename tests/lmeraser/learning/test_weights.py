"""Weights of a backbone: the models that they fit, the files that they come from, and what is refused."""

from __future__ import annotations

import os
import pickle
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_backbones import CONV, VIT, VITS, pictures, saved_at, weights
from torch import Tensor, nn

from lmeraser.config import BackboneConfig, PromptConfig
from lmeraser.errors import BackboneError
from lmeraser.learning.backbone import open_backbone
from lmeraser.learning.prompts import prompt_kind
from lmeraser.learning.timm_models import timm
from lmeraser.learning.weights import read_weights, weights_of
from lmeraser.state.pipeline import extract_routed


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
    images_N3PP, kind = pictures(7, 96).numpy(), prompt_kind(PromptConfig(), backbone)
    expected = extract_routed(backbone, images_N3PP, 4, kind)
    order = np.array([3, 6, 0, 5, 2, 4, 1])
    shuffled = extract_routed(backbone, images_N3PP[order], 4, kind)
    for row in range(7):
        alone = extract_routed(backbone, images_N3PP[row : row + 1], 4, kind)
        for features_NF, alone_1F, shuffled_NF in zip(expected, alone, shuffled, strict=True):
            assert features_NF[row].tobytes() == alone_1F[0].tobytes()
            assert features_NF[row].tobytes() == shuffled_NF[order == row][0].tobytes()
    assert len({features.tobytes() for features in expected[1]}) == 7
