"""Which files a source takes, and that it says what it leaves out."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from lmeraser.config import Config, ImagesConfig, SourceConfig
from lmeraser.config.validation import validated
from lmeraser.data import SourceReport, declared_labels, open_public, open_source
from lmeraser.errors import ConfigError, DataError


def png(level: int = 7) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (3, 3), level).save(buffer, "PNG")
    return buffer.getvalue()


def put(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png())


def put_parquet(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        columns = {"image": [png()], "label": ["red"], "sample_id": [name]}
        pq.write_table(pa.table(columns), folder / name)


def read(config: SourceConfig, images: ImagesConfig | None = None) -> tuple[list[str], dict[str, int]]:
    report = SourceReport()
    source = open_source(config, images=images, report=report)
    ids: list[str] = []
    for _ in range(2):
        ids = [row.sample_id for row in source.samples(source.labels or ("red", "blue"))]
    return ids, dict(report.left_out)


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
        with pytest.raises(DataError, match=rf"called .*{folders[-1]}.*for good.*`path:`.*list them under `labels:`"):
            declared(config)
    assert open_source(SourceConfig("image_folder", str(tmp_path / folders[0]))).labels == ("green", "red")
    # Who lists the labels means them.
    for listed in (config, replace(config, max_rows=1)):
        assert list(open_source(listed).samples(folders))


def test_a_label_may_have_the_name_of_a_split(tmp_path: Path) -> None:
    put(tmp_path, "train/a.png", "test tube/a.png", "tram/a.png")
    assert open_source(SourceConfig("image_folder", str(tmp_path))).labels == ("test tube", "train", "tram")


# Parquet


def parquet(path: Path, **options: Any) -> tuple[list[str], dict[str, int]]:
    return read(SourceConfig("parquet", str(path), **options))


def test_parquet_files_in_subfolders_are_read_and_files_that_are_not_data_are_not(tmp_path: Path) -> None:
    put_parquet(tmp_path, "b.parquet", "default/0001.parquet", "default/0000.PARQUET", "a.parquet/part-0.parquet")
    put(tmp_path, "._b.parquet", "_SUCCESS", "_temporary/0.parquet", ".git/x.parquet", "README.md", "c.arrow")
    (tmp_path / "default" / "up").symlink_to("..")
    assert parquet(tmp_path) == (
        ["a.parquet/part-0.parquet", "b.parquet", "default/0000.PARQUET", "default/0001.parquet"],
        {"hidden": 4, ".md": 1, ".arrow": 1, "circular link": 1},
    )


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("my_training.parquet", "my-eval.parquet"),
        ("Train.parquet", "TEST.parquet"),
        ("data/train-00000-of-00002-3a4b5c.parquet", "data/testing.parquet"),
        ("trainA.parquet", "testB.parquet"),
        ("train2024.parquet", "eval2024.parquet"),
        ("myTrain.parquet", "myXTest.parquet"),
        ("TRAIN_1.parquet", "evaluation-2024.parquet"),
        ("trainset.parquet", "testset.parquet"),
    ],
)
def test_a_split_has_the_files_whose_names_tell_of_it(tmp_path: Path, train: str, test: str) -> None:
    put_parquet(tmp_path, train, test)
    assert parquet(tmp_path, split="train") == ([train], {"of another split": 1})
    assert parquet(tmp_path, split="test") == ([test], {"of another split": 1})
    with pytest.raises(DataError, match="holds files of the splits test, train: choose one with `split:`"):
        parquet(tmp_path)
    with pytest.raises(DataError, match=r"no file of the split 'validation'.*of test, train"):
        parquet(tmp_path, split="validation")


@pytest.mark.parametrize("test", ["evaluation-2024.parquet", "testB.parquet", "dev/1.parquet", "train.parquet"])
def test_files_of_a_split_are_not_mixed_with_files_of_none(tmp_path: Path, test: str) -> None:
    put_parquet(tmp_path, test, "2025.parquet")
    with pytest.raises(DataError, match=r"files of the split (test|validation|train), and 1 .* such as 2025\.parquet"):
        parquet(tmp_path)


def test_files_that_all_tell_of_one_split_are_read_without_naming_it(tmp_path: Path) -> None:
    put_parquet(tmp_path, "testA.parquet", "eval2.parquet")
    assert len(parquet(tmp_path)[0]) == 2


def test_other_splits_follow_the_names_of_the_hub(tmp_path: Path) -> None:
    put_parquet(tmp_path, "balanced-00000-of-00001.parquet", "val.parquet", "more.parquet")
    assert parquet(tmp_path, split="balanced")[0] == ["balanced-00000-of-00001.parquet"]
    assert parquet(tmp_path, split="validation")[0] == parquet(tmp_path, split="dev")[0] == ["val.parquet"]


def test_files_whose_names_tell_of_no_split_have_none(tmp_path: Path) -> None:
    put_parquet(tmp_path, "a.parquet", "contest.parquet", "constrained.parquet")
    assert len(parquet(tmp_path)[0]) == 3
    for path in (tmp_path, tmp_path / "a.parquet"):
        with pytest.raises(DataError, match=r"no file of the split 'train': .*of no split, so leave `split:` out"):
            parquet(path, split="train")


def test_a_single_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    put_parquet(tmp_path, "test.parquet")
    assert parquet(tmp_path / "test.parquet")[0] == ["test.parquet"]
    assert parquet(tmp_path / "test.parquet", split="test")[0] == ["test.parquet"]


def test_a_path_that_leads_to_no_rows_says_why(tmp_path: Path) -> None:
    put(tmp_path, "raw/a.arrow", "raw/b.arrow", "raw/._c.parquet")
    put_parquet(tmp_path, "x.parquet")
    (tmp_path / "empty.parquet").touch()
    with pytest.raises(DataError, match=r"raw and its subfolders hold no \.parquet file.*2 \.arrow, 1 hidden"):
        parquet(tmp_path / "raw")
    with pytest.raises(
        DataError, match=r"there is no file or folder .*\*\.parquet: patterns are not supported, name the folder"
    ):
        parquet(tmp_path / "*.parquet")
    with pytest.raises(DataError, match=r"cannot read .*empty\.parquet"):
        parquet(tmp_path / "empty.parquet")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (pa.array(["/data/a.png"]), "text: perhaps paths"),
        (pa.array([[1, 2, 3]], pa.list_(pa.uint8())), "list<.*uint8>: perhaps pixels"),
        (pa.array([[[0.5]]]), "perhaps pixels"),
        (pa.array([[{"bytes": b"x"}]]), "several images per row"),
        (pa.array([[b"x", b"y"]]), "several images per row"),
        (pa.array([{"path": "a.png"}]), r"structs of path \(string\)"),
        (pa.array([{"bytes": "text", "path": "a.png"}]), r"structs of bytes \(string\), path"),
        (pa.array([7]), "int64"),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_a_column_that_holds_no_encoded_images_is_refused_by_its_type(
    tmp_path: Path, image: pa.Array, message: str
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": image, "label": ["red"]}), path)
    with pytest.raises(DataError, match=rf"a\.parquet: the column image holds .*{message}.*bytes of one encoded image"):
        parquet(path)


def test_a_repeated_column_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([png()]), pa.array([0]), pa.array([1])], ["image", "label", "label"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has the column label more than once"):
        parquet(tmp_path / "a.parquet")


def test_for_rows_without_label_names_the_error_says_what_to_list(tmp_path: Path) -> None:
    columns = {"image": [png()] * 4, "label": ["dog", "cat", "dog", None]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet declare no label names: list them under `labels:`.*'dog', 'cat'"):
        declared_labels(SourceConfig("parquet", str(tmp_path / "a.parquet"), max_rows=2))
    put(tmp_path, "folder/red/a.png", "folder/blue/a.png")
    assert declared_labels(SourceConfig("image_folder", str(tmp_path / "folder"))) == ("blue", "red")


# Configuration


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"kind": "image_folder", "path": "x", "split": "train"},
            "split is 'train', but a source of kind image_folder",
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
