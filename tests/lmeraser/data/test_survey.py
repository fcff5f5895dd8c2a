"""What is found in folders of images before there is a configuration."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from source_files import LABELS, images, parquet, png

from lmeraser.config import ColumnsConfig, SourceConfig
from lmeraser.data.survey import survey, with_public
from lmeraser.errors import DataError


def put(folder: Path, *names: str, rows: int = 2) -> Path:
    """Label folders of images."""
    for label in names:
        (folder / label).mkdir(parents=True)
        for row in range(rows):
            (folder / label / f"{row}.png").write_bytes(png(row))
    return folder


def test_label_folders_are_private_rows(tmp_path: Path) -> None:
    put(tmp_path, "dog", "cat", rows=3)
    (tmp_path / "cat" / "a.heic").write_bytes(b"x")
    found = survey(tmp_path)
    assert found.private == SourceConfig(kind="image_folder", path=str(tmp_path))
    assert (found.test, found.public) == (None, None)
    assert (found.rows, found.labels, found.declared, found.subjects) == (6, ("cat", "dog"), True, False)
    assert found.left_out == "1 .heic"


@pytest.mark.parametrize(("private", "test"), [("train", "test"), ("private", "val"), ("Training", "test_set")])
def test_folders_may_hold_a_part_each(tmp_path: Path, private: str, test: str) -> None:
    for part in (private, test, "public"):
        put(tmp_path / part, "cat", "dog")
    found = survey(tmp_path)
    paths = [found.private.path, found.test and found.test.path, found.public and found.public.path]
    assert paths == [str(tmp_path / part) for part in (private, test, "public")]


def test_a_folder_that_is_called_like_a_split_among_others_is_a_label(tmp_path: Path) -> None:
    put(tmp_path, "train", "car", "ship")
    assert survey(tmp_path).labels == ("car", "ship", "train")


def test_splits_of_parquet_files_are_told_apart(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        columns = {"image": images(3), "label": [0, 1, 2], "subject_id": ["a", "b", "c"]}
        parquet(tmp_path / f"{split}-00000-of-00001.parquet", columns, LABELS)
    found = survey(tmp_path)
    assert found.private == SourceConfig(kind="parquet", path=str(tmp_path), split="train")
    assert found.test == SourceConfig(kind="parquet", path=str(tmp_path), split="validation")
    assert (found.rows, found.labels, found.declared, found.subjects) == (3, tuple(LABELS), True, True)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        # CIFAR-100, MNIST and others as the Hugging Face Hub has them.
        (["img", "fine_label", "coarse_label"], ColumnsConfig(image="img", label="fine_label")),
        (["image", "label", "id"], ColumnsConfig(sample_id="id")),
        (["image_id", "user", "picture", "class"], ColumnsConfig("picture", "class", "image_id", "user")),
        (["image", "sample_id", "subject_id", "label"], ColumnsConfig()),
    ],
)
def test_columns_are_found_by_their_usual_names(tmp_path: Path, columns: list[str], named: ColumnsConfig) -> None:
    values: dict[str, Any] = {name: ["a", "b", "c"] for name in columns}
    for name in set(columns) & {"img", "image", "picture"}:
        values[name] = images(3)
    parquet(tmp_path / "a.parquet", values)
    found = survey(tmp_path)
    assert found.private == SourceConfig("parquet", str(tmp_path), columns=named)
    assert (found.rows, found.labels) == (3, ("a", "b", "c"))


def test_columns_are_found_by_what_they_hold(tmp_path: Path) -> None:
    # The only column with bytes; the only one with label names, as datasets write them; ids that are none.
    features = {"kind": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    table = pa.table({"scan": images(3), "page": [1, 2, 3], "kind": [0, 1, 0], "id": [5, 5, 6], "label": [[0]] * 3})
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    found = survey(tmp_path)
    assert found.private.columns == ColumnsConfig(image="scan", label="kind")
    assert (found.rows, found.labels, found.declared) == (3, ("cat", "dog"), True)


@pytest.mark.parametrize(
    ("column", "labels"), [(["b", "a", "b"], ("a", "b")), ([0, 3, 1], ("0", "1", "2", "3"))], ids=["names", "numbers"]
)
def test_labels_that_the_data_does_not_declare_are_listed(
    tmp_path: Path, column: list[str] | list[int], labels: tuple[str, ...]
) -> None:
    found = survey(parquet(tmp_path / "rows.parquet", {"image": images(3), "label": column}))
    assert (found.labels, found.declared) == (labels, False)


def test_the_side_is_the_median_of_the_longer_sides_of_images_that_can_be_read(tmp_path: Path) -> None:
    put(tmp_path, "cat", "dog", rows=1)
    (tmp_path / "cat" / "cut.png").write_bytes(b"no image")
    for number, size in enumerate([(40, 20), (20, 40), (50, 10)]):
        Image.new("L", size).save(tmp_path / "dog" / f"large{number}.png")
    # 3, 3, 40, 40, 50
    assert survey(tmp_path).side_px == 40


def test_tar_shards_are_told_apart_by_their_splits(tmp_path: Path) -> None:
    for split, rows in (("train", 3), ("test", 1)):
        with tarfile.open(tmp_path / f"{split}-000.tar", "w") as archive:
            for row in range(rows):
                for suffix, content in (("png", png(row)), ("cls", b"dog" if row else b"cat")):
                    header = tarfile.TarInfo(f"{row}.{suffix}")
                    header.size = len(content)
                    archive.addfile(header, io.BytesIO(content))
    found = survey(tmp_path)
    assert found.private == SourceConfig("webdataset", str(tmp_path), split="train")
    assert found.test == SourceConfig("webdataset", str(tmp_path), split="test")
    assert (found.rows, found.labels, found.declared) == (3, ("cat", "dog"), False)


def test_what_datasets_has_saved_is_found_with_its_splits_and_columns(tmp_path: Path) -> None:
    table = pa.table({"img": images(3), "fine_label": [0, 1, 2], "id": [7, 8, 9]})
    features = {"fine_label": {"names": list(LABELS)}}
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        with (
            pa.OSFile(str(tmp_path / split / "data-0.arrow"), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as out,
        ):
            out.write_table(table)
        (tmp_path / split / "state.json").write_text('{"_data_files": [{"filename": "data-0.arrow"}]}')
        (tmp_path / split / "dataset_info.json").write_text(json.dumps({"features": features}))
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    columns = ColumnsConfig(image="img", label="fine_label", sample_id="id")
    found = survey(tmp_path)
    assert found.private == SourceConfig("huggingface", str(tmp_path / "train"), columns=columns)
    assert found.test == SourceConfig("huggingface", str(tmp_path / "test"), columns=columns)
    assert (found.rows, found.labels, found.declared) == (3, LABELS, True)


def test_a_manifest_is_named_itself(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(1))
    (tmp_path / "rows.csv").write_text("image,label,subject_id\n0.png,cat,ann\n")
    found = survey(tmp_path / "rows.csv")
    assert found.private == SourceConfig("manifest", str(tmp_path / "rows.csv"))
    assert (found.rows, found.labels, found.subjects) == (1, ("cat",), True)


def test_public_rows_may_be_elsewhere(tmp_path: Path) -> None:
    found = with_public(survey(put(tmp_path / "a", "cat", "dog")), put(tmp_path / "b", "tree", "car"))
    assert found.public == SourceConfig(kind="image_folder", path=str(tmp_path / "b"))


def test_a_folder_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        survey(tmp_path / "nowhere")
    with pytest.raises(DataError, match="has no subfolder"):
        survey(tmp_path)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no rows; it holds: 1 \.heic"):
        survey(tmp_path)


def test_splits_without_training_rows_are_refused(tmp_path: Path) -> None:
    for split in ("test", "validation"):
        parquet(tmp_path / f"{split}.parquet", {"image": images(1), "label": [0]}, LABELS)
    with pytest.raises(DataError, match="none is called train"):
        survey(tmp_path)


def test_images_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"none of the first 1 images can be read, such as 'cat/a\.png'"):
        survey(tmp_path)
