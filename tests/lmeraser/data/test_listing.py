"""Which files a source reads, and that it reports what it leaves out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from listed_files import put, put_parquet, read
from pydantic import ValidationError

from lmeraser.config import Config, ImagesConfig, SourceConfig
from lmeraser.config.validation import validated
from lmeraser.data import SourceReport, declared_labels, open_public, open_source
from lmeraser.errors import ConfigError, DataError


def image_folder(path: Path, images: ImagesConfig | None = None) -> tuple[list[str], dict[str, int]]:
    return read(SourceConfig("image_folder", str(path)), images)


def test_hidden_folders_and_files_are_neither_labels_nor_rows(tmp_path: Path) -> None:
    put(tmp_path, "red/a.png", ".ipynb_checkpoints/a.png", "red/.ipynb_checkpoints/a.png", "__MACOSX/red/._a.png")
    put(tmp_path, "red/._a.png", "red/Thumbs.db", "red/.DS_Store", "red/desktop.ini", "blue/more/b.png")
    assert open_source(SourceConfig("image_folder", str(tmp_path))).labels == ("blue", "red")
    assert image_folder(tmp_path) == (["blue/more/b.png", "red/a.png"], {"hidden": 7})


def test_files_that_are_not_rows_are_counted_by_reason(tmp_path: Path) -> None:
    put(
        tmp_path, "red/a.PNG", "red/b.jfif", "red/c.avif", "red/IMG_1.HEIC", "red/IMG_2.heic", "red/raw.dng", "red/5f3a"
    )
    put(tmp_path, "red/photo.jpg.png ", "red/notes.txt", "red/logo.eps", "top.png")
    (tmp_path / "red" / "broken.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "red" / "pipe.png")
    assert image_folder(tmp_path) == (
        ["red/a.PNG", "red/b.jfif", "red/c.avif"],
        {
            ".heic": 2,
            ".dng": 1,
            "without a suffix": 1,
            "'.png '": 1,
            ".txt": 1,
            ".eps": 1,
            "next to the label folders": 1,
            "broken link": 1,
            "not a regular file": 1,
        },
    )
    taken, left_out = image_folder(tmp_path, ImagesConfig(formats=("PNG",)))
    assert taken == ["red/a.PNG"] and left_out[".jfif"] == left_out[".avif"] == 1


def test_a_report_is_summarised_most_frequent_first() -> None:
    report = SourceReport()
    assert report.summary() == ""
    report.left_out.update({".dng": 1, ".heic": 2})
    assert report.summary() == "2 .heic, 1 .dng"


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    put(tmp_path, "data/red/a.png", "elsewhere/extra/z.png", "elsewhere/violet/v.png", "elsewhere/one.png")
    red = tmp_path / "data" / "red"
    (red / "more").symlink_to("../../elsewhere/extra")
    (red / "one.png").symlink_to("../../elsewhere/one.png")
    (tmp_path / "data" / "violet").symlink_to("../elsewhere/violet")
    (red / "up").symlink_to("..")
    (red / "here").symlink_to(".")
    assert image_folder(tmp_path / "data") == (
        ["red/a.png", "red/more/z.png", "red/one.png", "violet/v.png"],
        {"circular link": 2},
    )


@pytest.mark.parametrize("name", [b"red/caf\xe9.png", b"caf\xe9/a.png", b"red/caf\xe9/a.png"])
def test_a_name_that_is_not_text_is_named_with_the_reason(tmp_path: Path, name: bytes) -> None:
    put(tmp_path, "red/a.png", "blue/a.png")
    try:
        put(tmp_path, os.fsdecode(name))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(DataError, match=r"the name b'caf\\xe9(\.png)?' in .* is not UTF-8.*rename it") as caught:
        image_folder(tmp_path)
    str(caught.value).encode()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "red/a.png", "blue/b.png")
    opened = Path.open

    def denied(path: Path, *given: Any) -> Any:
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied")
        return opened(path, *given)

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError, match=r"cannot read .*blue/b\.png: Permission denied"):
        image_folder(tmp_path)


def test_a_huge_file_is_read_only_up_to_the_limit(tmp_path: Path) -> None:
    put(tmp_path, "red/a.png", "blue/b.png")
    with (tmp_path / "red" / "huge.png").open("wb") as file:
        file.truncate(1 << 33)
    images = ImagesConfig(max_bytes=1000)
    source = open_source(SourceConfig("image_folder", str(tmp_path)), images=images)
    assert max(len(row.image) for row in source.samples(source.labels)) == 1001


def test_blanks_brackets_long_names_and_equal_names_are_rows(tmp_path: Path) -> None:
    names = ["blue/my photo 0 (1).png", f"blue/{'x' * 251}.png", "blue/same.png", "red/same.png", "red/ .png"]
    put(tmp_path, *names)
    assert sorted(image_folder(tmp_path)[0]) == sorted(names)


@pytest.mark.parametrize(("folder", "declared"), [("Cafe\u0301", "Caf\u00e9"), ("Caf\u00e9", "Cafe\u0301")])
def test_labels_are_found_in_any_unicode_form(tmp_path: Path, folder: str, declared: str) -> None:
    put(tmp_path, f"{folder}/a.png", "red/b.png")
    source = open_source(SourceConfig("image_folder", str(tmp_path)))
    assert source.labels == ("Caf\u00e9", "red")
    assert [(row.sample_id, row.label) for row in source.samples(("red", declared))] == [
        (f"{folder}/a.png", 1),
        ("red/b.png", 0),
    ]
    assert Config(labels=("red", declared)).state(()).labels == ("red", "Caf\u00e9")


@pytest.mark.parametrize("folders", [("train", "test"), ("Train", "VAL", "dev"), ("trainA", "testA"), ("train2017",)])
def test_folders_with_names_of_splits_are_not_labels(tmp_path: Path, folders: tuple[str, ...]) -> None:
    put(tmp_path, *(f"{folder}/{label}/a.png" for folder in folders for label in ("red", "green")))
    config = SourceConfig("image_folder", str(tmp_path))
    for declared in (declared_labels, lambda config: open_source(config).labels, open_public):
        with pytest.raises(
            DataError, match=rf"called .*{folders[-1]}.*permanently.*`path:`.*list them under `labels:`"
        ):
            declared(config)
    assert open_source(SourceConfig("image_folder", str(tmp_path / folders[0]))).labels == ("green", "red")
    # Who lists the labels means them.
    for listed in (config, replace(config, max_rows=1)):
        assert list(open_source(listed).samples(folders))


def test_a_label_may_have_the_name_of_a_split(tmp_path: Path) -> None:
    put(tmp_path, "train/a.png", "test tube/a.png", "tram/a.png")
    assert open_source(SourceConfig("image_folder", str(tmp_path))).labels == ("test tube", "train", "tram")


# Configuration


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"kind": "image_folder", "path": "x", "split": "train"},
            "split is 'train', but a source of kind image_folder",
        ),
        (
            {"kind": "image_folder", "path": "x", "columns": {"image": "img"}},
            "columns is given, but a source of kind image_folder has no columns",
        ),
        ({"kind": "glyphs", "split": "test"}, "split is 'test', but a source of kind glyphs has no split"),
        ({"kind": "digits", "path": "x"}, "path is 'x', but a source of kind digits has no path"),
        ({"kind": "parquet", "path": "x", "dataset": "MNIST"}, "dataset is 'MNIST', but a source of kind parquet"),
        ({"kind": "digits", "split": "validation"}, "split is 'validation'; digits have train and test"),
        ({"kind": "parquet", "path": "hf://datasets/ylecun/mnist/x.parquet"}, "path is 'hf://.*download it"),
        ({"kind": "parquet", "path": "gs://rows/data"}, "allowed are local paths and file://, and s3://"),
        ({"kind": "parquet", "path": "s3a://rows/data"}, "write s3://rows/data"),
        ({"kind": "image_folder", "path": "https://example.org/x.zip"}, "path is 'https://example.org/x.zip'"),
    ],
)
def test_a_key_without_meaning_for_a_source_is_refused_by_name(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"private: .*{message}"):
        validated(Config, {"private": source}, "c.yaml")


def test_a_path_may_be_a_file_url(tmp_path: Path) -> None:
    put(tmp_path, "red/a.png", "blue/b.png")
    put_parquet(tmp_path, "x.parquet")
    assert read(SourceConfig("image_folder", f"file://{tmp_path}"))[0] == ["blue/b.png", "red/a.png"]
    assert read(SourceConfig("parquet", f"file://{tmp_path}/x.parquet"))[0] == ["x.parquet"]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("CocoDetection", "needs annFile"),
        ("DatasetFolder", "needs loader"),
        ("FakeData", "does not read a folder"),
        ("EMNIST", "needs `split:`"),
    ],
)
def test_a_torchvision_class_that_needs_more_than_a_folder_is_refused_by_name(
    tmp_path: Path, dataset: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=rf"torchvision's {dataset} {message}"):
        read(SourceConfig("torchvision", str(tmp_path), dataset))


def test_a_torchvision_split_is_that_of_the_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Unknown value 'nowhere' for argument split\. Valid values are"):
        read(SourceConfig("torchvision", str(tmp_path), "EMNIST", split="nowhere"))
    with pytest.raises(ConfigError, match="split is 'val'; torchvision's MNIST has train and test"):
        read(SourceConfig("torchvision", str(tmp_path), "MNIST", split="val"))


def test_images_are_set_once_for_rows_and_predictions() -> None:
    config = validated(Config, {"images": {"formats": ["PNG"], "max_pixels": 50_000_000}}, "c.yaml")
    assert config.serving.images == config.images == ImagesConfig(formats=("PNG",), max_pixels=50_000_000)
    with pytest.raises(ConfigError, match="write images next to serving"):
        validated(Config, {"serving": {"images": {"max_pixels": 9}}}, "c.yaml")
    with pytest.raises(ValidationError, match="EPS"):
        ImagesConfig(formats=("PNG", "EPS"))  # type: ignore[arg-type]
