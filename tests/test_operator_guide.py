"""The operator's guide, followed in a shell: its `sh` blocks, in order, against a small system."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ray_head import ray_head
from safetensors.torch import save_file
from small_system import VIT, picture

from cluster.runtime import free_port
from lmeraser.learning.timm_models import timm

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "guides" / "operator.md"
LABELS = ("red", "green", "blue")


def write_site(folder: Path) -> None:
    """Images, a backbone and a configuration, as an operator has them."""
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"num_classes": 0, **VIT.model_args}
    model: Any = timm.create_model(VIT.name, **arguments)
    model.set_input_size(img_size=(VIT.image_px, VIT.image_px))
    save_file(model.state_dict(), folder / "backbone.safetensors")
    for name, numbers in {"private": range(48), "public": range(1000, 1064)}.items():
        for number in numbers:
            image = folder / name / LABELS[number % 3] / f"s{number}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(picture(number))
    (folder / "picture.png").write_bytes(picture(300))
    site = {
        "store": str(folder / "store"),
        "backbone": {
            "name": VIT.name,
            "weights": str(folder / "backbone.safetensors"),
            "image_px": VIT.image_px,
            "model_args": VIT.model_args,
        },
        "partition": {"anchors": 12, "max_cluster_rows": 24, "min_tuned_rows": 8},
        "prompt": {"kind": "token", "tokens": 2},
        "tuning": {"epochs": 2},
        "heads": {"head_dim": 32},
        "public": {"kind": "image_folder", "path": str(folder / "public")},
        "private": {"kind": "image_folder", "path": str(folder / "private")},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(site))


@pytest.mark.timeout(900)
def test_the_operators_guide_can_be_followed(tmp_path: Path) -> None:
    write_site(tmp_path)
    blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 7
    with ray_head() as head:
        environment = {
            **head.environment,
            "HOME": str(tmp_path),
            "PORT": str(free_port()),
            "RAY_ADDRESS": head.address,
            # Where `residue` looks for Ray's files.
            "RAY_TMPDIR": str(head.token.parent),
        }
        for name in ("LMERASER_KEYS", "LMERASER_HASH_KEY", "LMERASER_API_KEY"):
            environment.pop(name, None)
        done = subprocess.run(
            ["bash", "-xeuo", "pipefail", "-c", "".join(blocks)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-5000:] + done.stdout[-3000:] + (tmp_path / "serve.log").read_text()
    assert json.loads((tmp_path / "deletion.json").read_text())["status"] == "completed"
    assert re.search(r"covered +yes", done.stdout)
    assert re.search(r"clean +yes", done.stdout)
    assert re.search(r"equal +(yes|True)", done.stdout)
    # The guide's umask.
    kept = [tmp_path / "shop-front.json", *(tmp_path / ".lmeraser" / "keys").glob("api-keys.json")]
    assert [file.stat().st_mode & 0o077 for file in kept] == [0, 0]
