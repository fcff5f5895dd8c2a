"""A first ingest that cannot begin makes no store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command_line import Run
from small_system import picture
from workplace import BROKEN, LEFT_OUT, VIT, Workplace, backbone, end_actors_of, folder_source, numbered, put_images

from lmeraser.learning.backbone import create_model
from lmeraser.store import LocalStore

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


@pytest.mark.parametrize(
    ("parts", "code", "message"),
    [
        ({"backbone": backbone(name="vit_gigantic")}, 1, "'vit_gigantic' is not a timm model"),
        ({"backbone": backbone(weights="/no/file.safetensors")}, 1, "/no/file.safetensors"),
        ({"backbone": backbone(weights="trained")}, 1, "lmeraser pretrain"),
        ({"backbone": backbone(image_px=40)}, 1, "image_px 40"),
        ({"partition": {"anchors": 13}}, 1, "12 public rows for partition.anchors 13"),
        ({"public": folder_source(Path("/no/public"))}, 1, "/no/public"),
        ({"private": folder_source(Path("/no/private"))}, 1, "/no/private"),
        ({"labels": ["red", "red"]}, 2, "repeats red"),
        ({"tuning": {"learning_rate": float("inf")}}, 2, "tuning.learning_rate"),
    ],
    ids=["backbone", "weights", "untrained", "size", "anchors", "public", "private", "labels", "infinite"],
)
def test_a_first_ingest_that_cannot_begin_makes_no_store(
    lmeraser: Run,
    workplace: Workplace,
    first_source: dict[str, Any],
    tmp_path: Path,
    parts: Any,
    code: int,
    message: str,
) -> None:
    nowhere = LocalStore(tmp_path / "store")
    lmeraser(*workplace.ingest("--store", nowhere.uri, **{"private": first_source, **parts})).failed(code, message)
    assert nowhere.names() == []


def test_without_keys_no_store_is_made(
    lmeraser: Run, workplace: Workplace, first_source: dict[str, Any], tmp_path: Path
) -> None:
    nowhere = LocalStore(tmp_path / "store")
    options = ("--store", nowhere.uri, "--keys", tmp_path / "none")
    lmeraser(*workplace.ingest(*options, private=first_source)).failed(1, str(tmp_path / "none"), "lmeraser keys init")
    assert nowhere.names() == []


def test_weights_in_another_layout_are_refused(
    lmeraser: Run, workplace: Workplace, first_source: dict[str, Any], tmp_path: Path
) -> None:
    torch.save({"model": create_model(VIT).state_dict(), "epoch": 3}, tmp_path / "nested.pth")
    changed = {"private": first_source, "backbone": backbone(weights=str(tmp_path / "nested.pth"))}
    lmeraser(*workplace.ingest("--store", tmp_path / "store", **changed)).failed(1, "nested.pth")


def test_an_undecodable_public_image_is_refused_or_left_out(
    lmeraser: Run, workplace: Workplace, first_source: dict[str, Any], tmp_path: Path
) -> None:
    public = put_images(tmp_path / "public", **numbered(range(1000, 1012)), red_broken=BROKEN)
    lmeraser(*workplace.ingest("--store", tmp_path / "store", private=first_source, public=public)).failed(
        1, "red_broken.png"
    )
    ran = lmeraser(
        *workplace.ingest("--skip-bad", "--json", "--store", tmp_path / "store", private=first_source, public=public)
    )
    end_actors_of(LocalStore(tmp_path / "store"))
    assert ran.code == 0, ran.err
    assert (ran.json["public_skipped"], ran.json["skipped"]) == 2 * (LEFT_OUT,)


def test_public_rows_without_label_names_are_refused(
    lmeraser: Run, workplace: Workplace, first_source: dict[str, Any], tmp_path: Path
) -> None:
    columns = {"label": [0, 1], "image": [picture(1000), picture(1001)]}
    pq.write_table(pa.table(columns), tmp_path / "public.parquet")
    public = {"kind": "parquet", "path": str(tmp_path / "public.parquet")}
    nowhere = LocalStore(tmp_path / "store")
    lmeraser(*workplace.ingest("--store", nowhere.uri, private=first_source, public=public)).failed(1, "ClassLabel")
    assert nowhere.names() == []
