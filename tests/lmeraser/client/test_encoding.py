"""Every form in which programs hold an image is sent as that image, or refused with its type."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.ExifTags import Base

from lmeraser.client.encoding import encoded_image, is_one_image
from lmeraser.data import decode_image
from lmeraser.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    return path


class OwnFile:
    """A file-like object with nothing but ``read``."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self) -> bytes:
        return self._data


def test_every_form_of_an_image_file_is_one_image(file: Path) -> None:
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


def test_an_image_of_16_bits_keeps_them() -> None:
    deep = np.linspace(0, 65535, 35).reshape(5, 7).astype(np.uint16)
    arrived = Image.open(io.BytesIO(encoded_image(Image.fromarray(deep))))
    assert arrived.mode.startswith("I;16")
    np.testing.assert_array_equal(np.asarray(arrived), deep)


def test_transparency_is_kept() -> None:
    clear = np.dstack([PIXELS, np.arange(35, dtype=np.uint8).reshape(5, 7)])
    for image in (Image.fromarray(clear), Image.fromarray(clear).quantize(200)):
        arrived = Image.open(io.BytesIO(encoded_image(image)))
        np.testing.assert_array_equal(np.asarray(arrived), np.asarray(image.convert("RGBA")))


def test_the_exif_orientation_is_sent_and_no_other_metadata() -> None:
    noted = Image.Exif()
    noted[Base.Orientation], noted[Base.Make] = 6, "a camera"
    taken = io.BytesIO()
    Image.fromarray(PIXELS).save(taken, "PNG", exif=noted)
    arrived = Image.open(io.BytesIO(encoded_image(Image.open(taken)))).getexif()
    assert dict(arrived) == {Base.Orientation: 6}
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded_image(Image.fromarray(PIXELS))))), PIXELS)


def png(bits: int, colour: int, row: bytes, transparent: tuple[int, ...]) -> bytes:
    """A square PNG file of 4 equal rows with a transparent colour (PNG, section 11.3.2.1)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, bits, colour, 0, 0, 0))
    colours = chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    pixels = chunk(b"IDAT", zlib.compress((b"\0" + row) * 4))
    return b"\x89PNG\r\n\x1a\n" + header + colours + pixels + chunk(b"IEND", b"")


def grey_tiff(bits: int, white_is_zero: bool) -> bytes:
    """A little-endian TIFF file of 16 rows of 16 rising grey levels of 12 or 16 bits (TIFF 6.0, section 4)."""
    levels = np.linspace(0, 2**bits - 1, 256).astype(np.uint32)
    planes = (levels[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    strip = levels.astype("<u2").tobytes() if bits == 16 else np.packbits(planes.reshape(-1)).tobytes()
    tags = struct.pack("<H", 8)
    for tag, value in ((256, 16), (257, 16), (258, bits), (259, 1), (262, 0 if white_is_zero else 1)):
        tags += struct.pack("<HHIHH", tag, 3, 1, value, 0)
    for tag, value in ((273, 8 + 2 + 8 * 12 + 4), (278, 16), (279, len(strip))):
        tags += struct.pack("<HHII", tag, 4, 1, value)
    return b"II*\0" + struct.pack("<I", 8) + tags + struct.pack("<I", 0) + strip


GREY_16 = np.array([0, 257, 65535, 300], ">u2").tobytes()
RGB_16 = np.array([[0, 257, 514], [65535, 0, 0], [0, 257, 514], [0, 0, 0]], ">u2").tobytes()


@pytest.mark.parametrize(
    "data",
    [
        grey_tiff(12, white_is_zero=False),
        grey_tiff(16, white_is_zero=False),
        grey_tiff(16, white_is_zero=True),
        png(2, 0, b"\x1b", (1,)),
        png(4, 0, b"\x0f\x1f", (1,)),
        png(8, 0, b"\0\x01\xff\x01", (1,)),
        png(16, 0, GREY_16, (257,)),
        png(8, 2, bytes(range(12)), (3, 4, 5)),
        png(16, 2, RGB_16, (0, 257, 514)),
    ],
    ids=["12", "16", "16-0-white", "grey-2", "grey-4", "grey-8", "grey-16", "rgb-8", "rgb-16"],
)
def test_the_service_reads_a_pil_image_as_it_reads_its_file(data: bytes) -> None:
    np.testing.assert_array_equal(decode_image(encoded_image(Image.open(io.BytesIO(data))), 16), decode_image(data, 16))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "type NoneType is not an image: allowed are a path"),
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
def test_the_error_for_any_other_value_names_it(value: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
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
    unreadable = [closed, *(Image.open(io.BytesIO(content)) for content in contents)]
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
