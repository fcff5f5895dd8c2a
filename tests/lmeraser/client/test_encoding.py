"""What programs hold of an image arrives as that image, or is refused with its type."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.ExifTags import Base

from lmeraser.client.encoding import encoded_image, is_one_image
from lmeraser.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    return path


class OwnFile:
    """Has read, and nothing else of a file."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self) -> bytes:
        return self._data


def test_whatever_holds_an_image_file_is_one_image(file: Path) -> None:
    data = file.read_bytes()
    with file.open("rb") as opened, file.open("rb", buffering=0) as unbuffered:
        forms: list[Any] = [
            data,
            bytearray(data),
            memoryview(data),
            io.BytesIO(data),
            opened,
            unbuffered,
            OwnFile(data),
            file,
            str(file),
            {"bytes": data, "path": None},
            {"bytes": None, "path": str(file)},
            {"bytes": data},
        ]
        for form in forms:
            assert is_one_image(form), form
            assert encoded_image(form) == data, form


def test_a_picture_of_16_bits_keeps_them() -> None:
    deep = np.linspace(0, 65535, 35).reshape(5, 7).astype(np.uint16)
    arrived = Image.open(io.BytesIO(encoded_image(Image.fromarray(deep))))
    assert arrived.mode.startswith("I;16")
    np.testing.assert_array_equal(np.asarray(arrived), deep)


def test_what_is_transparent_stays_so() -> None:
    clear = np.dstack([PIXELS, np.arange(35, dtype=np.uint8).reshape(5, 7)])
    for image in (Image.fromarray(clear), Image.fromarray(clear).quantize(200)):
        arrived = Image.open(io.BytesIO(encoded_image(image)))
        np.testing.assert_array_equal(np.asarray(arrived), np.asarray(image.convert("RGBA")))


def test_how_a_picture_is_to_be_turned_arrives_and_nothing_else_of_what_the_camera_wrote() -> None:
    noted = Image.Exif()
    noted[Base.Orientation], noted[Base.Make] = 6, "a camera"
    taken = io.BytesIO()
    Image.fromarray(PIXELS).save(taken, "PNG", exif=noted)
    arrived = Image.open(io.BytesIO(encoded_image(Image.open(taken)))).getexif()
    assert dict(arrived) == {Base.Orientation: 6}
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded_image(Image.fromarray(PIXELS))))), PIXELS)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "type NoneType is no image: allowed are a path"),
        (7, "type int "),
        (torch.zeros(3, 4, 4), r"type torch\.Tensor "),
        (object(), "type object "),
        ({"a": PIXELS}, "keys 'a'"),
        ({}, "keys none"),
        ({"bytes": None, "path": None}, "no bytes or path"),
        ({"bytes": 7}, "type int "),
        (io.StringIO("text"), "reading text"),
        (OwnFile(7), "type int "),  # type: ignore[arg-type]
        (np.zeros((3, 8, 8), np.uint8), r"uint8\[3, 8, 8\]"),
        (np.zeros((8, 8, 4), np.uint8), r"uint8\[8, 8, 4\]"),
        (np.zeros((0, 8), np.uint8), "no pixels"),
        (np.array([b"x"], object), "object"),
        (Image.new("F", (4, 4)), "mode 'F' has no known black and white"),
        (Image.new("I", (4, 4)), "mode 'I'"),
        ("no/such/file.png", "No such file"),
        ("nul\0.png", "null byte"),
        (".", "Is a directory"),
    ],
)
def test_anything_else_is_refused_with_what_it_is(value: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        encoded_image(value)


def test_a_pil_image_that_cannot_be_read_is_an_error(file: Path, tmp_path: Path) -> None:
    closed = Image.open(file)
    closed.close()
    data = {"png": io.BytesIO(), "jpeg": io.BytesIO()}
    for kind, buffer in data.items():
        Image.fromarray(PIXELS).resize((200, 200)).save(buffer, kind)
    broken = bytearray(data["png"].getvalue())
    broken[60:200] = bytes(140)
    (tmp_path / "cut.png").write_bytes(data["png"].getvalue()[:-3000])
    contents = [bytes(broken), data["jpeg"].getvalue()[:-1000]]
    unreadable = [closed, *(Image.open(io.BytesIO(one)) for one in contents)]
    for image in unreadable:
        with pytest.raises(DataError, match=r"cannot read the PIL image .*: .+; allowed are a path"):
            encoded_image(image)
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(DataError, match=r"PIL image .*cut\.png: "):
        encoded_image(cut)


def test_a_file_that_is_closed_is_an_error(file: Path) -> None:
    opened = file.open("rb")
    opened.close()
    with pytest.raises(DataError, match="closed file"):
        encoded_image(opened)
