"""Which Parquet files a source reads, and which columns they must have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from listed_files import put, put_parquet, read
from source_files import png

from lmeraser.config import SourceConfig
from lmeraser.data import declared_labels
from lmeraser.errors import DataError


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
def test_a_split_has_the_files_whose_names_contain_it(tmp_path: Path, train: str, test: str) -> None:
    put_parquet(tmp_path, train, test)
    assert parquet(tmp_path, split="train") == ([train], {"of another split": 1})
    assert parquet(tmp_path, split="test") == ([test], {"of another split": 1})
    with pytest.raises(DataError, match="holds files of the splits test, train: choose one with `split:`"):
        parquet(tmp_path)
    with pytest.raises(DataError, match=r"no file of the split 'validation'.*the splits test, train"):
        parquet(tmp_path, split="validation")


@pytest.mark.parametrize("test", ["evaluation-2024.parquet", "testB.parquet", "dev/1.parquet", "train.parquet"])
def test_files_of_a_split_are_not_mixed_with_files_of_none(tmp_path: Path, test: str) -> None:
    put_parquet(tmp_path, test, "2025.parquet")
    with pytest.raises(DataError, match=r"files of the split (test|validation|train), and 1 .* such as 2025\.parquet"):
        parquet(tmp_path)


def test_files_that_all_name_one_split_are_read_without_naming_it(tmp_path: Path) -> None:
    put_parquet(tmp_path, "testA.parquet", "eval2.parquet")
    assert len(parquet(tmp_path)[0]) == 2


def test_other_splits_follow_the_names_of_the_hub(tmp_path: Path) -> None:
    put_parquet(tmp_path, "balanced-00000-of-00001.parquet", "val.parquet", "more.parquet")
    assert parquet(tmp_path, split="balanced")[0] == ["balanced-00000-of-00001.parquet"]
    assert parquet(tmp_path, split="validation")[0] == parquet(tmp_path, split="dev")[0] == ["val.parquet"]


def test_files_whose_names_contain_no_split_have_none(tmp_path: Path) -> None:
    put_parquet(tmp_path, "a.parquet", "contest.parquet", "constrained.parquet")
    assert len(parquet(tmp_path)[0]) == 3
    for path in (tmp_path, tmp_path / "a.parquet"):
        with pytest.raises(DataError, match=r"no file of the split 'train': .*contain no split, so leave `split:` out"):
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
