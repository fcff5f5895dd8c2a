"""Image folders, torchvision data sets and bundled data."""

from __future__ import annotations

import io
import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from source_files import LABELS, png, read

from lmeraser.config import SourceConfig
from lmeraser.data import Sample, decode_image, open_source
from lmeraser.errors import ConfigError, DataError, UnknownLabelError

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
