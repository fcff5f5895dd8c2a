"""Rows from Parquet files: labels, images and ids in the forms in which people write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import LABELS, images, parquet, png, read

from lmeraser.config import ColumnsConfig, SourceConfig
from lmeraser.data import check_samples, open_source
from lmeraser.errors import DataError, UnknownLabelError


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


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    columns = {"label": [9, 9], "img": images(2), "fine": [1, 0], "id": [7, 8], "user": ["ann", None]}
    table = pa.table(columns)
    features = {"fine": {"names": ["dog", "cat"], "_type": "ClassLabel"}, "label": {"names": ["no"]}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
    named = ColumnsConfig(image="img", label="fine", sample_id="id", subject_id="user")
    assert open_source(SourceConfig("parquet", str(tmp_path), columns=named)).labels == ("dog", "cat")
    rows = [(row.sample_id, row.subject_id, LABELS[row.label], row.image) for row in read(tmp_path, columns=named)]
    assert rows == [("7", "ann", "cat", png(0)), ("8", None, "dog", png(1))]


def test_one_column_may_hold_two_things(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": images(2), "label": ["cat", "dog"], "id": ["x", "y"]})
    named = ColumnsConfig(sample_id="id", subject_id="label")
    rows = [(row.sample_id, row.subject_id, row.label) for row in read(path, columns=named)]
    assert rows == [("x", "cat", 0), ("y", "dog", 1)]


@pytest.mark.parametrize(
    ("named", "missing"),
    [
        (ColumnsConfig(image="img", label="fine"), "img, fine"),
        (ColumnsConfig(sample_id="sample_id"), "sample_id"),
        (ColumnsConfig(subject_id="person"), "person"),
    ],
)
def test_a_named_column_must_be_there(tmp_path: Path, named: ColumnsConfig, missing: str) -> None:
    path = parquet(tmp_path / "a.parquet", {"image": images(1), "label": [0], "colour": ["red"]})
    with pytest.raises(DataError, match=rf"a\.parquet lacks the column {missing}; it has image, label, colour"):
        read(path, columns=named)


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
