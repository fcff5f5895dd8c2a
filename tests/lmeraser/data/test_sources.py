"""Sources: Parquet, image folders, torchvision, bundled data; drawing rows, and the checks that rows must pass."""

from __future__ import annotations

import io
import itertools
import json
import random
import struct
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from lmeraser.config import SourceConfig
from lmeraser.data import Sample, check_samples, decode_image, open_source
from lmeraser.errors import ConfigError, DataError, DuplicateSampleError, UndecodableImageError, UnknownLabelError

LABELS = ("cat", "dog", "eel")


def png(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (3, 3), level).save(buffer, "PNG")
    return buffer.getvalue()


def parquet(path: Path, columns: dict[str, Any], names: Sequence[str] = ()) -> Path:
    """A Parquet file as Hugging Face's datasets write it; ``names`` are those of a ClassLabel."""
    table = pa.table(columns)
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def images(number: int) -> list[bytes]:
    return [png(level) for level in range(number)]


def read(path: Path, labels: tuple[str, ...] = LABELS, kind: Any = "parquet", **options: Any) -> list[Sample]:
    return list(open_source(SourceConfig(kind=kind, path=str(path), **options)).samples(labels))


# Parquet


def test_class_labels_of_hugging_face_are_found_by_name(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": images(4), "label": [0, 1, 2, 1]}, ["eel", "cat", "dog"])
    assert open_source(SourceConfig(kind="parquet", path=str(path))).labels == ("eel", "cat", "dog")
    assert [LABELS[row.label] for row in read(path)] == ["eel", "cat", "dog", "cat"]


def test_images_may_be_structs_with_bytes(tmp_path: Path) -> None:
    structs = [{"bytes": image, "path": f"{index}.png"} for index, image in enumerate(images(3))]
    path = parquet(tmp_path / "a.parquet", {"image": structs, "label": [0, 1, 2]}, LABELS)
    assert [row.image for row in read(path)] == images(3)


def test_images_may_be_plain_bytes(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": images(3), "label": [0, 1, 2]})
    assert [row.image for row in read(path)] == images(3)


@pytest.mark.parametrize("rows_of_a_group", [1, 7, 100])
@pytest.mark.parametrize("nested", [False, True])
def test_row_groups_of_any_size_are_read(tmp_path: Path, nested: bool, rows_of_a_group: int) -> None:
    expected = images(40)
    column: list[Any] = [{"bytes": image, "path": None} for image in expected] if nested else expected
    table = pa.table({"image": column, "label": [0] * 40, "sample_id": [f"{row:02}" for row in range(40)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=rows_of_a_group)
    assert [row.image for row in read(tmp_path / "a.parquet")] == expected


def test_a_missing_image_is_reported_as_undecodable_with_its_id(tmp_path: Path) -> None:
    structs = [{"bytes": png(1), "path": None}, {"bytes": None, "path": "elsewhere.png"}, None]
    path = parquet(tmp_path / "a.parquet", {"image": structs, "label": [0, 0, 0], "sample_id": ["x", "y", "z"]})
    checked = check_samples(read(path), LABELS, skip_bad=True)
    assert [row.sample_id for row in checked] == ["x"]
    assert list(checked.skipped) == ["y", "z"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_labels_may_be_names(tmp_path: Path, kind: pa.DataType) -> None:
    names = pa.array(["dog", "cat", "dog"]).cast(kind)
    path = parquet(tmp_path / "a.parquet", {"image": images(3), "label": names})
    assert open_source(SourceConfig(kind="parquet", path=str(path))).labels == ()
    assert [LABELS[row.label] for row in read(path)] == ["dog", "cat", "dog"]


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint8(), pa.int16()])
def test_labels_without_names_are_indices_into_the_list(tmp_path: Path, kind: pa.DataType) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": images(3), "label": pa.array([2, 0, 1], kind)})
    assert [row.label for row in read(path)] == [2, 0, 1]


@pytest.mark.parametrize(
    ("label", "names", "shown"),
    [("cow", (), "'cow'"), (3, (), "3"), (-1, (), "-1"), (-1, LABELS, "-1"), (0, ("cow", "cat"), "'cow'")],
)
def test_a_label_outside_the_list_is_named_with_its_row(
    tmp_path: Path, label: Any, names: Sequence[str], shown: str
) -> None:
    columns = {"image": images(1), "label": [label], "sample_id": ["row-9"]}
    path = parquet(tmp_path / "a.parquet", columns, names)
    with pytest.raises(UnknownLabelError, match=rf"'row-9' has the label {shown}; declared are 'cat', 'dog', 'eel'"):
        read(path)


@pytest.mark.parametrize("labels", [[1.0], [True], [Decimal(1)], [[1]], [b"cat"]])
def test_labels_that_are_neither_numbers_nor_names_are_refused(tmp_path: Path, labels: Any) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": images(1), "label": labels, "sample_id": ["row-9"]})
    with pytest.raises(DataError, match=r"a\.parquet: the column label holds .*a number or a name is allowed"):
        read(path)


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.null()])
def test_a_row_without_a_label_is_named(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {"image": images(1), "label": pa.nulls(1, kind), "sample_id": ["row-9"]}
    with pytest.raises(DataError, match=r"'row-9' has no label"):
        read(parquet(tmp_path / "a.parquet", columns))


@pytest.mark.parametrize("missing", [["image"], ["label"], ["image", "label"]])
def test_missing_columns_are_named_when_the_source_is_opened(tmp_path: Path, missing: list[str]) -> None:
    columns = {"image": images(1), "label": [0], "colour": ["red"]}
    path = parquet(tmp_path / "a.parquet", {name: columns[name] for name in columns if name not in missing})
    with pytest.raises(DataError, match=rf"a\.parquet lacks the column {', '.join(missing)};.*colour"):
        open_source(SourceConfig(kind="parquet", path=str(path)))


def test_ids_are_read_where_they_are_given(tmp_path: Path) -> None:
    columns = {"image": images(3), "label": [0, 1, 2], "sample_id": ["x", "y", "z"], "subject_id": ["p", "q", "p"]}
    rows = read(parquet(tmp_path / "a.parquet", columns))
    assert [(row.sample_id, row.subject_id) for row in rows] == [("x", "p"), ("y", "q"), ("z", "p")]


def test_an_empty_id_is_no_id(tmp_path: Path) -> None:
    columns = {"image": images(3), "label": [0] * 3, "sample_id": ["x", None, ""], "subject_id": [None, "q", ""]}
    rows = read(parquet(tmp_path / "a.parquet", columns))
    assert (rows[0].sample_id, *(row.subject_id for row in rows)) == ("x", None, "q", None)
    assert all(row.sample_id.startswith("image-") for row in rows[1:])


@pytest.mark.parametrize("kind", [pa.int64(), pa.int8(), pa.uint64()])
def test_whole_numbers_are_ids_and_zero_is_one_of_them(tmp_path: Path, kind: pa.DataType) -> None:
    ids, subjects = pa.array([0, 1, 2]).cast(kind), pa.array([0, None, 0]).cast(kind)
    columns = {"image": images(3), "label": [0] * 3, "sample_id": ids, "subject_id": subjects}
    rows = read(parquet(tmp_path / "a.parquet", columns))
    assert [(row.sample_id, row.subject_id) for row in rows] == [("0", "0"), ("1", None), ("2", "0")]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(2), pa.string(), pa.large_string()])
def test_bytes_are_ids_as_the_text_that_they_spell(tmp_path: Path, kind: pa.DataType) -> None:
    columns = {"image": images(2), "label": [0] * 2, "sample_id": pa.array([b"u1", "é".encode()]).cast(kind)}
    assert [row.sample_id for row in read(parquet(tmp_path / "a.parquet", columns))] == ["u1", "é"]


def test_ids_keep_the_form_in_which_they_are_written(tmp_path: Path) -> None:
    names = ["0042", "42", " 42", "42 ", "Ann", "ann", "None", "nan", "0", "caf\u00e9", "Zoe\u0308", "a\tb", "\0"]
    columns = {"image": images(1) * len(names), "label": [0] * len(names), "sample_id": names, "subject_id": names}
    rows = read(parquet(tmp_path / "a.parquet", columns))
    assert [row.sample_id for row in rows] == [row.subject_id for row in rows] == names


@pytest.mark.parametrize("column", ["sample_id", "subject_id"])
@pytest.mark.parametrize(
    "values",
    [
        pa.array([100.0, 101.0]),
        pa.array([float("nan"), 1.0]),
        pa.array([1.5, None], pa.float32()),
        pa.array([True, False]),
        pa.array([Decimal(0), Decimal(1)]),
        pa.array([["u1", "u2"], ["u3"]]),
        pa.array([{"id": "u1"}, {"id": "u2"}]),
        pa.array([0, 1], pa.timestamp("s")),
        pa.array([0, 1], pa.date32()),
        pa.array([1.0, 2.0]).dictionary_encode(),
    ],
    ids=lambda values: str(values.type),
)
def test_ids_of_types_that_people_write_in_several_ways_are_refused(
    tmp_path: Path, column: str, values: pa.Array
) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": images(2), "label": [0] * 2, column: values})
    with pytest.raises(DataError, match=rf"a\.parquet: the column {column} holds .*text or whole numbers"):
        read(path)


def test_bytes_that_are_not_text_are_refused_as_ids(tmp_path: Path) -> None:
    columns = {"image": images(2), "label": [0] * 2, "subject_id": [b"u1", b"\xff\x00"]}
    with pytest.raises(DataError, match=r"row 1 of .*a\.parquet has the id b'\\xff\\x00', which is not UTF-8"):
        read(parquet(tmp_path / "a.parquet", columns))


@pytest.mark.parametrize("column", ["sample_id", "subject_id"])
def test_an_id_has_at_most_1024_characters(tmp_path: Path, column: str) -> None:
    columns = {"image": images(2), "label": [0] * 2, column: ["é" * 1024, "y"]}
    first = read(parquet(tmp_path / "a.parquet", columns))[0]
    assert getattr(first, column) == "é" * 1024
    for values in (["x", "é" * 1025], [b"x", b"x" * 1025]):
        message = r"the id in row 1 of .*b\.parquet has 1025 characters and begins with .* 1 to 1024 characters"
        with pytest.raises(DataError, match=message):
            read(parquet(tmp_path / "b.parquet", {**columns, column: values}))


def test_a_path_that_is_too_long_for_an_id_is_named(tmp_path: Path) -> None:
    deep = tmp_path.joinpath("images", "cat", *(["d" * 200] * 5))
    deep.mkdir(parents=True)
    prefix_length = len(deep.relative_to(tmp_path / "images").as_posix()) + 1
    (deep / f"{'a' * (1024 - prefix_length - 4)}.png").write_bytes(png(1))
    (row,) = read(tmp_path / "images", ("cat",), kind="image_folder")
    assert len(row.sample_id) == 1024
    (deep / f"{'a' * (1025 - prefix_length - 4)}.png").write_bytes(png(1))
    with pytest.raises(DataError, match=r"path of its file below .*images, has 1025 characters .* 1 to 1024"):
        read(tmp_path / "images", ("cat",), kind="image_folder")


def test_a_row_without_a_subject_has_none(tmp_path: Path) -> None:
    columns = {"image": images(2), "label": [0, 1], "sample_id": ["x", "y"]}
    for nulls in ({}, {"subject_id": pa.nulls(2)}, {"subject_id": pa.array([None, None], pa.int64())}):
        assert [row.subject_id for row in read(parquet(tmp_path / "a.parquet", columns | nulls))] == [None, None]


def test_a_folder_of_parquet_files_is_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    parquet(folder / "b.parquet", {"image": images(1), "label": [1], "sample_id": ["b/0"]}, LABELS)
    # Another file may number the same names otherwise.
    parquet(folder / "a.parquet", {"image": images(2), "label": [0, 1], "sample_id": ["a/0", "a/1"]}, LABELS[::-1])
    (folder / "README.md").write_text("not a row")
    rows = read(folder)
    assert [(row.sample_id, LABELS[row.label]) for row in rows] == [("a/0", "eel"), ("a/1", "dog"), ("b/0", "dog")]


def test_a_source_can_be_read_again(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": images(2), "label": [0, 1]})
    source = open_source(SourceConfig(kind="parquet", path=str(path)))
    assert list(source.samples(LABELS)) == list(source.samples(LABELS))


def test_a_parquet_path_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.parquet").write_text("not Parquet")
    with pytest.raises(DataError, match="nowhere"):
        read(tmp_path / "nowhere.parquet")
    with pytest.raises(DataError, match=r"empty and its subfolders hold no \.parquet file"):
        read(tmp_path / "empty")
    with pytest.raises(DataError, match=r"cannot read .*text\.parquet"):
        read(tmp_path / "text.parquet")


def test_a_parquet_file_that_is_damaged_between_header_and_footer_is_named(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": images(50), "label": [0] * 50})
    data = bytearray(path.read_bytes())
    footer = int.from_bytes(data[-8:-4], "little")
    data[4 : -8 - footer] = bytes(len(data) - 12 - footer)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"cannot read .*a\.parquet"):
        read(path)


def test_a_home_folder_in_a_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    parquet(tmp_path / "a.parquet", {"image": images(1), "label": [0]})
    assert len(read(Path("~/a.parquet"))) == 1


# Image folders


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {"dog/b.png": 1, "dog/a.PNG": 2, "cat/deep/er/c.png": 3, "cat/d.png": 4, "eel/notes.txt": 5, "top.png": 6}
    for name, level in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(level))
    return tmp_path


def test_an_image_folder_has_one_label_for_each_subfolder(folder: Path) -> None:
    assert open_source(SourceConfig(kind="image_folder", path=str(folder))).labels == LABELS


def test_rows_of_an_image_folder_are_named_after_their_paths(folder: Path) -> None:
    rows = read(folder, kind="image_folder")
    assert {row.sample_id: (LABELS[row.label], row.image) for row in rows} == {
        "cat/d.png": ("cat", png(4)),
        "cat/deep/er/c.png": ("cat", png(3)),
        "dog/a.PNG": ("dog", png(2)),
        "dog/b.png": ("dog", png(1)),
    }
    assert all(row.subject_id is None for row in rows)


def test_an_image_folder_gives_its_rows_in_one_order(folder: Path) -> None:
    ids = [row.sample_id for row in read(folder, kind="image_folder")]
    assert ids == [row.sample_id for row in read(folder, kind="image_folder")]
    assert ids == sorted(ids, key=lambda name: name.split("/"))


def test_a_subfolder_that_is_not_declared_is_named(folder: Path) -> None:
    with pytest.raises(UnknownLabelError, match=r"'dog/a\.PNG' has the label 'dog'"):
        read(folder, ("cat", "eel"), kind="image_folder")


def test_an_image_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.png").write_bytes(png(1))
    with pytest.raises(DataError, match="nowhere is not a folder"):
        read(tmp_path / "nowhere", kind="image_folder")
    with pytest.raises(DataError, match=r"a\.png is not a folder"):
        read(tmp_path / "flat" / "a.png", kind="image_folder")
    with pytest.raises(DataError, match="flat has no subfolder"):
        read(tmp_path / "flat", kind="image_folder")


# torchvision


@pytest.fixture
def mnist(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A tiny data set in MNIST's own file format, and its images by split."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    levels_by_split = {}
    for index, (split, prefix) in enumerate((("train", "train"), ("test", "t10k"))):
        levels = np.random.default_rng(index).integers(0, 256, (5 - index, 28, 28), dtype=np.uint8)
        labels = np.arange(len(levels), dtype=np.uint8) * 2 + index
        for kind, array in (("images-idx3", levels), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (raw / f"{prefix}-{kind}-ubyte").write_bytes(header + array.tobytes())
        levels_by_split[split] = levels
    return tmp_path, levels_by_split


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_torchvision_data_set_on_disk_is_read(mnist: tuple[Path, dict[str, np.ndarray]], split: Any) -> None:
    path, levels = mnist
    source = open_source(SourceConfig(kind="torchvision", path=str(path), dataset="MNIST", split=split))
    assert len(source.labels) == 10
    rows = list(source.samples(source.labels))
    assert [int(source.labels[row.label].split(" ")[0]) for row in rows] == [
        index * 2 + (split == "test") for index in range(len(levels[split]))
    ]
    for row, expected in zip(rows, levels[split], strict=True):
        np.testing.assert_array_equal(decode_image(row.image, 28)[0], expected)


def test_labels_of_a_torchvision_data_set_are_found_by_name(mnist: tuple[Path, dict[str, np.ndarray]]) -> None:
    source = open_source(SourceConfig(kind="torchvision", path=str(mnist[0]), dataset="MNIST"))
    backwards = source.labels[::-1]
    assert [backwards[row.label] for row in source.samples(backwards)] == [
        source.labels[row.label] for row in source.samples(source.labels)
    ]
    with pytest.raises(UnknownLabelError, match="row 0 of torchvision's MNIST"):
        list(source.samples(("cat", "dog")))


def test_torchvisions_image_folder_is_read(folder: Path) -> None:
    for path in (folder / "eel", folder / "top.png"):
        path.rename(folder / "dog" / f"{path.name}.x")
    rows = read(folder, ("dog", "cat"), kind="torchvision", dataset="ImageFolder")
    assert [row.label for row in rows] == [1, 1, 0, 0]
    assert [decode_image(row.image, 1).ravel().tolist() for row in rows] == [[level] * 3 for level in (4, 3, 2, 1)]


@pytest.mark.parametrize("name", ["CIFAR11", "cifar10", "wrap_dataset_for_transforms_v2", "vision", "os"])
def test_a_data_set_that_torchvision_lacks_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' is not in torchvision.datasets"):
        read(tmp_path, kind="torchvision", dataset=name)


@pytest.mark.parametrize("name", ["MNIST", "CIFAR10", "USPS", "SVHN", "ImageFolder"])
def test_a_torchvision_data_set_that_is_not_on_disk_is_not_downloaded(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"cannot open torchvision's {name}"):
        read(tmp_path, kind="torchvision", dataset=name)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# Bundled data


def test_the_two_splits_of_the_digits_are_scikit_learns_1797_images() -> None:
    digits = load_digits()
    train, test = (
        {row.sample_id: row for row in open_source(SourceConfig("digits", split=split)).samples(tuple("0123456789"))}
        for split in ("train", "test")
    )
    assert not set(train) & set(test)
    assert sorted(train | test) == [f"digit-{index:04d}" for index in range(1797)]
    assert 1797 / 8 < len(test) < 1797 / 4
    for index, (levels, target) in enumerate(zip(digits.images, digits.target, strict=True)):
        row = (train | test)[f"digit-{index:04d}"]
        assert row.label == target
        if index % 20 == 0:
            shown = decode_image(row.image, 8)[0]
            np.testing.assert_allclose(shown, levels * 255 / 16, atol=0.5)


def test_digits_keep_to_the_declared_labels() -> None:
    source = open_source(SourceConfig(kind="digits"))
    assert source.labels == tuple("0123456789")
    forwards = [row.label for row in source.samples(source.labels)]
    assert [9 - row.label for row in source.samples(source.labels[::-1])] == forwards
    with pytest.raises(UnknownLabelError, match="'digit-"):
        list(source.samples(("1", "2")))


def first_glyphs(number: int) -> list[Sample]:
    source = open_source(SourceConfig(kind="glyphs"))
    return list(itertools.islice(source.samples(source.labels), number))


def test_glyphs_are_ten_digits_and_the_letters_of_both_cases() -> None:
    labels = open_source(SourceConfig(kind="glyphs")).labels
    assert len(set(labels)) == len(labels) == 62
    assert all(len(name) == 1 and name.isascii() and name.isalnum() for name in labels)


def test_glyphs_have_the_size_of_a_digit_and_no_two_are_alike() -> None:
    rows = first_glyphs(60)
    assert len({row.sample_id for row in rows}) == len({row.image for row in rows}) == 60
    for row in rows:
        with Image.open(io.BytesIO(row.image)) as image:
            assert image.size == (8, 8)
        levels = decode_image(row.image, 8)[0]
        assert levels.max() > 100 > levels.min()


def test_a_glyphs_name_says_which_character_it_is() -> None:
    labels = open_source(SourceConfig(kind="glyphs")).labels
    for row in first_glyphs(200):
        assert chr(int(row.sample_id.split("/")[1].removeprefix("U+"), 16)) == labels[row.label]


def test_glyphs_come_out_the_same_each_time() -> None:
    assert first_glyphs(40) == first_glyphs(40)


# Drawing


def ids_of(path: Path, rows: int | None) -> list[str]:
    return [row.sample_id for row in read(path, max_rows=rows)]


@pytest.fixture
def two_orders(tmp_path: Path) -> tuple[Path, Path]:
    """The same hundred rows in two orders."""
    paths = []
    for order in range(2):
        ids = [f"row-{index}" for index in range(100)]
        random.Random(order).shuffle(ids)
        columns = {"image": [png(1)] * 100, "label": [0] * 100, "sample_id": ids}
        paths.append(parquet(tmp_path / f"{order}.parquet", columns))
    return paths[0], paths[1]


@pytest.mark.parametrize("rows", [1, 7, 50, 99])
def test_a_subset_does_not_depend_on_the_order_of_rows(two_orders: tuple[Path, Path], rows: int) -> None:
    one, other = (ids_of(path, rows) for path in two_orders)
    assert ids_of(two_orders[0], None) != ids_of(two_orders[1], None)
    assert set(one) == set(other)
    assert len(one) == len(set(one)) == rows


def test_a_subset_keeps_the_order_of_the_source(two_orders: tuple[Path, Path]) -> None:
    everything = ids_of(two_orders[0], None)
    drawn = ids_of(two_orders[0], 30)
    assert drawn == [name for name in everything if name in drawn]
    assert drawn != everything[:30]


def test_a_smaller_subset_is_part_of_a_larger_one(two_orders: tuple[Path, Path]) -> None:
    draws = [set(ids_of(two_orders[0], rows)) for rows in (3, 20, 60, 100)]
    assert draws[0] < draws[1] < draws[2] < draws[3]


def test_removing_a_row_outside_the_subset_changes_nothing(two_orders: tuple[Path, Path], tmp_path: Path) -> None:
    drawn = set(ids_of(two_orders[0], 20))
    ids = [name for name in ids_of(two_orders[0], None) if name in drawn or name.endswith("7")]
    assert 20 < len(ids) < 100
    columns = {"image": [png(1)] * len(ids), "label": [0] * len(ids), "sample_id": ids}
    assert set(ids_of(parquet(tmp_path / "fewer.parquet", columns), 20)) == drawn


@pytest.mark.parametrize("rows", [100, 101, 10_000])
def test_a_subset_of_more_rows_than_there_are_is_the_whole_source(two_orders: tuple[Path, Path], rows: int) -> None:
    assert ids_of(two_orders[0], rows) == ids_of(two_orders[0], None)


def test_a_subset_has_the_labels_of_its_source() -> None:
    assert open_source(SourceConfig(kind="digits", max_rows=3)).labels == tuple("0123456789")


# Checks


def sample(name: str, label: int = 0, image: bytes | None = None) -> Sample:
    return Sample(name, name, label, png(9) if image is None else image)


def test_good_samples_pass_unchanged() -> None:
    rows = [sample("a"), sample("b", 2), sample("c", 1, png(1))]
    checked = check_samples(rows, LABELS, skip_bad=False)
    assert list(checked) == rows
    assert list(checked.skipped) == []


def test_two_unicode_forms_of_one_sample_id_are_a_duplicate() -> None:
    with pytest.raises(DuplicateSampleError, match="comes more than once"):
        list(check_samples([sample("caf\u00e9"), sample("cafe\u0301")], LABELS, skip_bad=False))


@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_duplicate_sample_id_is_named(skip_bad: bool) -> None:
    rows = [sample("a"), sample("b"), sample("c"), sample("b", 1, png(3))]
    with pytest.raises(DuplicateSampleError, match="'b' comes more than once"):
        list(check_samples(rows, LABELS, skip_bad=skip_bad))


def test_the_id_of_an_undecodable_image_counts_as_taken() -> None:
    with pytest.raises(DuplicateSampleError, match="'a'"):
        list(check_samples([sample("a", image=b"bad"), sample("a")], LABELS, skip_bad=True))


def test_ids_that_differ_in_case_or_spaces_are_not_duplicates() -> None:
    rows = [sample("a"), sample("A"), sample("a "), sample("á")]
    assert list(check_samples(rows, LABELS, skip_bad=False)) == rows


@pytest.mark.parametrize("label", [-1, 3, 99])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_a_label_outside_the_list_is_named(label: int, skip_bad: bool) -> None:
    with pytest.raises(UnknownLabelError, match=f"'b' has the label {label}; allowed is 0 to 2"):
        list(check_samples([sample("a"), sample("b", label)], LABELS, skip_bad=skip_bad))


def bad_rows(number: int) -> list[Sample]:
    return [row for index in range(number) for row in (sample(f"good-{index}"), sample(f"bad-{index}", image=b"no"))]


def test_all_undecodable_images_are_named_at_once() -> None:
    rows = [*bad_rows(2), sample("cut", image=png(1)[:-30]), sample("none", image=b""), sample("last")]
    with pytest.raises(UndecodableImageError, match=r"4 image.*--skip-bad") as caught:
        list(check_samples(rows, LABELS, skip_bad=False))
    for name in ("bad-0", "bad-1", "cut", "none"):
        assert repr(name) in str(caught.value)
    assert "good" not in str(caught.value)


def test_bad_images_are_grouped_by_reason() -> None:
    rows = [sample("a", image=b"no"), sample("b", image=b""), sample("c", image=b"no"), sample("d")]
    message = r"3 image.*'a', 'c': the image cannot be decoded: it is of no known.*; 'b': .*it has no bytes.*--skip-bad"
    with pytest.raises(UndecodableImageError, match=message):
        list(check_samples(rows, LABELS, skip_bad=False))
    with pytest.raises(UndecodableImageError) as caught:
        list(check_samples(rows[:3], LABELS, skip_bad=False))
    assert "--skip-bad" not in str(caught.value)


def test_of_many_undecodable_images_the_first_are_named_and_all_counted() -> None:
    checked = check_samples(bad_rows(13), LABELS, skip_bad=False)
    with pytest.raises(UndecodableImageError, match=r"13 image.*'bad-0'.*'bad-9' and 3 more"):
        list(checked)
    assert list(checked.skipped) == [f"bad-{index}" for index in range(13)]


def test_with_skip_bad_undecodable_images_are_left_out_and_reported() -> None:
    checked = check_samples(bad_rows(3), LABELS, skip_bad=True)
    assert [row.sample_id for row in checked] == ["good-0", "good-1", "good-2"]
    assert list(checked.skipped) == ["bad-0", "bad-1", "bad-2"]


def test_samples_are_checked_as_they_come() -> None:
    def endless() -> Iterator[Sample]:
        yield from bad_rows(1)
        for index in itertools.count():
            yield sample(f"{index}")

    checked = check_samples(endless(), LABELS, skip_bad=False)
    assert [row.sample_id for row in itertools.islice(checked, 3)] == ["good-0", "0", "1"]
    assert list(checked.skipped) == ["bad-0"]
