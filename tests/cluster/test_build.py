"""Ray workers make the same public artifacts as one process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_system import MINUTE, SMALLEST, samples

from cluster import public_rows
from cluster.build import open_or_build
from lmeraser.config import BackboneConfig, Config, HeadsConfig, PromptConfig, SourceConfig, TuningConfig
from lmeraser.data import open_public, open_source
from lmeraser.errors import BackboneError, ConfigError
from lmeraser.learning.backbone import create_model, open_backbone
from lmeraser.learning.weights import weights_of
from lmeraser.state import public_draw
from lmeraser.state.digests import tensor_digest
from lmeraser.state.keys import init_keys
from lmeraser.state.public_fit import backbone_digest, build_public
from lmeraser.store import LocalStore


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("whole_rows", [8192, 30], ids=["features are kept", "features are summed"])
def test_workers_make_the_same_artifacts_as_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_rows: int
) -> None:
    # Several workers for few rows.
    monkeypatch.setattr(public_rows, "PUBLIC_CHUNK", 20)
    monkeypatch.setattr(public_draw, "WHOLE_ROWS", whole_rows)
    for row in samples(1000, 1060):
        file = tmp_path / "public" / str(row.label) / f"{row.sample_id}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(row.image)
    torch.manual_seed(0)
    backbone = BackboneConfig(MINUTE.name, str(tmp_path / "backbone.safetensors"), MINUTE.image_px, MINUTE.model_args)
    (tmp_path / "backbone.safetensors").write_bytes(weights_of(create_model(MINUTE).state_dict()))
    source = SourceConfig("image_folder", str(tmp_path / "public"))
    config = Config(
        backbone=backbone,
        partition=SMALLEST["minute"],
        prompt=PromptConfig("token", tokens=2, public_epochs=2, public_rows=50),
        tuning=TuningConfig(epochs=1, batch_rows=4),
        heads=HeadsConfig(head_dim=16),
        public=source,
        private=source,
        lease_s=1.5,
    )
    init_keys(tmp_path / "keys")
    reports: list[tuple[str, int, int]] = []

    def report(what: str, done: int, total: int) -> None:
        reports.append((what, done, total))

    digest = backbone_digest(open_backbone(backbone))
    other_weights = replace(config, backbone_digest="0" * 16)
    with pytest.raises(BackboneError, match=f"have the digest {digest}, but backbone_digest is {'0' * 16}"):
        open_or_build(other_weights, LocalStore(tmp_path / "store"), tmp_path / "keys", report)
    assert not (tmp_path / "store" / "store.json").exists()
    config = replace(config, backbone_digest=digest[:16])
    built = open_or_build(config, LocalStore(tmp_path / "store"), tmp_path / "keys", report)
    state_config = config.state(open_source(source).labels)
    artifacts = build_public(state_config, None, open_public(source).samples(open_public(source).labels))
    expected = {
        part: tensor_digest(getattr(artifacts, part)) for part in ("backbone", "partition", "features", "prompt")
    }
    assert built.manifest.public_digests == expected
    # Fifty rows in batches of four, twice.
    assert ("public prompt, steps", 20, 26) in reports
    assert built.manifest.lease_s == 1.5
    for lease_s in (None, 1.5):
        again = open_or_build(
            replace(config, lease_s=lease_s), LocalStore(tmp_path / "store"), tmp_path / "keys", report
        )
        assert again.manifest == built.manifest
    with pytest.raises(BackboneError, match=digest):
        open_or_build(other_weights, LocalStore(tmp_path / "store"), tmp_path / "keys", report)
    with pytest.raises(ConfigError, match=r"lease_s is 2 in the configuration and 1\.5 in the store"):
        open_or_build(replace(config, lease_s=2.0), LocalStore(tmp_path / "store"), tmp_path / "keys", report)
