"""A configuration is written for the images in a folder, and it can be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Run
from source_files import images, parquet
from workplace import numbered, put_images

from lmeraser.config import ColumnsConfig, SourceConfig, load_config
from lmeraser.data import open_source


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    put_images(tmp_path / "rows $2", **numbered(range(9)))
    put_images(tmp_path / "public", **numbered(range(100, 116)))
    return tmp_path / "rows $2"


def test_the_file_names_what_the_folder_holds(lmeraser: Run, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "made.yaml"
    result = lmeraser("init", rows, "--public", tmp_path / "public", "--out", out, "--json")
    assert (result.code, result.err) == (0, "")
    config = load_config(out)
    assert config.private == SourceConfig(kind="image_folder", path=str(rows))
    assert config.public == SourceConfig(kind="image_folder", path=str(tmp_path / "public"))
    assert config.test is None
    assert config.store == str(tmp_path / "made-store")
    # Sixteen public rows.
    assert config.partition.anchors == 4
    assert (config.backbone.weights, config.backbone.image_px) == ("pretrained", 96)
    said = result.json
    assert (said["configuration"], said["private_rows"], said["labels"]) == (str(out), 9, 3)
    assert (said["public_rows"], said["anchors"], said["image_px"]) == (16, 4, 96)


def test_without_public_images_glyphs_take_their_place_and_that_is_said(
    lmeraser: Run, rows: Path, tmp_path: Path
) -> None:
    result = lmeraser("init", rows, "--out", tmp_path / "made.yaml")
    assert result.code == 0
    assert "printed glyphs" in result.err and "--public" in result.err
    config = load_config(tmp_path / "made.yaml")
    assert (config.public, config.prompt.public_epochs) == (SourceConfig(kind="glyphs"), 0)


def test_a_file_is_never_overwritten(lmeraser: Run, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "made.yaml"
    out.write_text("mine")
    lmeraser("init", rows, "--out", out).failed(2, str(out), "exists")
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--public", "few"], 2, "holds 3 public images; at least 8"),
        (["--public", "nowhere"], 1, "there is no folder"),
        (["--weights", "nowhere.safetensors"], 2, "--weights takes pretrained, trained or a file"),
        (["--out", "nowhere/site.yaml"], 2, "cannot write"),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_written(
    lmeraser: Run,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    code: int,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    put_images(tmp_path / "few", **numbered(range(3)))
    lmeraser("init", rows, *options).failed(code, reason)
    assert not (tmp_path / "site.yaml").exists()


def test_columns_that_are_called_otherwise_are_written(lmeraser: Run, tmp_path: Path) -> None:
    columns = {"img": images(3), "fine_label": [0, 1, 2], "user": ["a", "b", "c"]}
    parquet(tmp_path / "rows" / "rows.parquet", columns)
    assert lmeraser("init", tmp_path / "rows", "--out", tmp_path / "made.yaml").code == 0
    config = load_config(tmp_path / "made.yaml")
    assert config.private.columns == ColumnsConfig(image="img", label="fine_label", subject_id="user")
    assert len(list(open_source(config.private).samples(config.labels))) == 3
