"""Images that are not decoded: damaged, too large, or of another format."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from encoded_images import FORMATS, SMALL, encoded, noise, png_of_size
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from lmeraser.config.images import ImagesConfig
from lmeraser.data import decode_image
from lmeraser.errors import UndecodableImageError


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.9])
def test_a_truncated_image_is_refused(kind: str, share: float) -> None:
    data = encoded(noise(), kind)
    decode_image(data, 8)
    with pytest.raises(UndecodableImageError, match="cannot be decoded"):
        decode_image(data[: int(len(data) * share)], 8)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"not an image",
        bytes(1000),
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"<svg></svg>",
        b"%PDF-1.4",
    ],
)
def test_data_that_is_not_an_image_is_refused(data: bytes) -> None:
    with pytest.raises(UndecodableImageError, match="cannot be decoded: ") as caught:
        decode_image(data, 8)
    assert "BytesIO" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(40), "it is HEIC; allowed are AVIF, BMP, GIF, JPEG, PNG, TIFF, WEBP"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is PostScript; allowed"),
        (b"data:image/png;base64,iVBORw0KGgo=", "it is a data URL"),
        (b"iVBORw0KGgoAAAANSUhEUg", "it is base64 text of a PNG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"secret words", "it is of no known format"),
        (b"\x89PNG\r\n\x1a\n", "it begins like a PNG file but is damaged"),
        (b"", "it has no bytes"),
    ],
)
def test_data_that_is_not_an_image_is_named_and_not_quoted(data: bytes, message: str) -> None:
    with pytest.raises(UndecodableImageError, match=re.escape(message)) as caught:
        decode_image(data, 8, ImagesConfig())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["ICO", "ICNS", "EPS", "DDS", "PCX", "SGI", "TGA", "SPIDER", "MSP", "BLP"])
def test_other_formats_of_pillow_are_not_opened(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = {"SPIDER": "F", "MSP": "1", "BLP": "P"}.get(kind, "RGB")
    data = encoded(Image.new(mode, (32, 32)), kind)
    factory, accept = Image.OPEN[kind]
    opened: list[str] = []

    def opening(*given: Any) -> Any:
        opened.append(kind)
        return factory(*given)

    monkeypatch.setitem(Image.OPEN, kind, (opening, accept))
    for allowed in (ImagesConfig(), None):
        with pytest.raises(UndecodableImageError, match="allowed are"):
            decode_image(data, 8, *([allowed] if allowed else []))
    assert opened == []


def test_only_the_configured_formats_are_accepted() -> None:
    only_png = ImagesConfig(formats=("PNG",))
    assert decode_image(encoded(noise()), 8, only_png).shape == (3, 8, 8)
    with pytest.raises(UndecodableImageError, match=r"it is JPEG; allowed are PNG \(images.formats\)"):
        decode_image(encoded(noise(), "JPEG"), 8, only_png)
    with pytest.raises(UndecodableImageError, match="allowed are AVIF"):
        decode_image(encoded(noise(), "PPM"), 8, ImagesConfig())
    # What a store holds is read whatever is set.
    assert decode_image(encoded(noise(), "PPM"), 8).shape == (3, 8, 8)


def test_of_a_file_with_several_pictures_the_first_is_decoded() -> None:
    views = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(views[0], "MPO", save_all=True, append_images=views[1:])
    assert decode_image(data, 1, ImagesConfig()).ravel().tolist() == pytest.approx([255, 0, 0], abs=2)


class UnforeseenError(Exception):
    """What no decoder is known to raise."""


@pytest.mark.parametrize("error", [UnforeseenError("odd"), RuntimeError(), NotImplementedError("DXT9"), MemoryError()])
def test_any_error_of_a_decoder_is_reported_for_its_image(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise error

    data = encoded(noise())
    for part in ("load", "load_prepare"):
        with monkeypatch.context() as patch:
            patch.setattr(ImageFile.ImageFile, part, failing)
            with pytest.raises(UndecodableImageError, match=f"cannot be decoded: {error or type(error).__name__}"):
                decode_image(data, 8)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a"]), st.binary(max_size=200))
def test_any_bytes_are_refused(start: bytes, rest: bytes) -> None:
    with pytest.raises(UndecodableImageError):
        decode_image(start + rest, 4)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, max_examples=300)
@given(st.sampled_from(FORMATS), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))))
def test_a_damaged_image_is_either_decoded_or_refused(kind: str, damage: list[tuple[float, int]]) -> None:
    data = bytearray(SMALL[kind])
    for position, value in damage:
        data[int(position * len(data))] = value
    try:
        decoded = decode_image(bytes(data), 4)
    except UndecodableImageError:
        return
    assert decoded.shape == (3, 4, 4)
    assert decoded.dtype == np.uint8


def test_as_many_pixels_as_are_allowed_are_decoded_and_no_more() -> None:
    data = encoded(noise(20, 30))
    assert decode_image(data, 4, ImagesConfig(max_pixels=600)).shape == (3, 4, 4)
    with pytest.raises(UndecodableImageError, match="30×20 pixels; allowed are 599"):
        decode_image(data, 4, ImagesConfig(max_pixels=599))


def test_as_many_bytes_as_are_allowed_are_decoded_and_no_more() -> None:
    data = encoded(noise())
    assert decode_image(data, 4, ImagesConfig(max_bytes=len(data))).shape == (3, 4, 4)
    with pytest.raises(
        UndecodableImageError, match=rf"{len(data)} bytes; allowed are {len(data) - 1} \(images.max_bytes"
    ):
        decode_image(data, 4, ImagesConfig(max_bytes=len(data) - 1))


@pytest.mark.parametrize(("width", "height"), [(8000, 6000), (10_000, 10_000)])
def test_an_image_that_is_too_large_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(UndecodableImageError, match=f"{width}×{height} pixels; allowed are 40000000"):
        decode_image(png_of_size(width, height), 4, ImagesConfig())


@pytest.mark.parametrize("kind", FORMATS)
def test_no_format_is_decoded_before_its_size_is_known(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(noise(20, 30), kind)

    def decoded(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    with pytest.raises(UndecodableImageError, match="30×20 pixels; allowed are 599"):
        decode_image(data, 4, ImagesConfig(formats=FORMATS, max_pixels=599))


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (0, 0)])
def test_an_image_of_an_impossible_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UndecodableImageError):
        decode_image(png_of_size(*size), 4)
