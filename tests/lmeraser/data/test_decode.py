"""Decoding: pixels as they were encoded, resized as bicubic interpolation says, and a plain error for the rest."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lmeraser.data import decode_image
from lmeraser.errors import UndecodableImageError


def noise(height: int = 48, width: int = 64, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (3 + place) + place) * np.cos(y / (4 + place)) for place in range(3)]
    return np.round(127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A few bytes of PNG that claim to be an image of this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def bicubic(pixels: np.ndarray, side: int) -> np.ndarray:
    """Keys' cubic (a = -1/2), widened by the scale where the image shrinks, along one axis after the other."""

    def along_rows(values: np.ndarray) -> np.ndarray:
        scale = len(values) / side
        width = max(scale, 1.0)
        centres = (np.arange(side) + 0.5) * scale
        t = np.abs((np.arange(len(values)) + 0.5 - centres[:, None]) / width)
        near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
        weights = np.where(t < 1, near, np.where(t < 2, far, 0.0))
        weights /= weights.sum(axis=1, keepdims=True)
        return np.clip(np.round(np.tensordot(weights, values, 1)), 0, 255)

    across = along_rows(pixels.astype(np.float64).swapaxes(0, 1)).swapaxes(0, 1)
    return along_rows(across).transpose(2, 0, 1)


def test_pixels_come_back_as_they_were_encoded() -> None:
    pixels = noise(32, 32)
    found = decode_image(encoded(pixels), 32)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
def test_every_lossless_format_gives_the_same_pixels(kind: str) -> None:
    np.testing.assert_array_equal(decode_image(encoded(noise(16, 16), kind), 16), noise(16, 16).transpose(2, 0, 1))


def test_a_jpeg_gives_nearly_the_pixels_that_were_encoded() -> None:
    pixels = smooth(40, 40)
    found = decode_image(encoded(pixels, "JPEG", quality=98, subsampling=0), 40)
    assert np.abs(found.astype(int) - pixels.transpose(2, 0, 1)).max() <= 8


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 20}])
def test_a_jpeg_gives_the_pixels_that_pillow_reads(options: dict[str, object]) -> None:
    data = encoded(noise(40, 40), "JPEG", **options)
    np.testing.assert_array_equal(decode_image(data, 40), np.asarray(Image.open(io.BytesIO(data))).transpose(2, 0, 1))


# Where one side shrinks and the other grows, clipping between the two passes hangs on their order: no noise there.
SIZES = [(48, 64, 32), (20, 31, 64), (8, 8, 33), (57, 57, 1), (1, 1, 5)]


@pytest.mark.parametrize(
    ("make", "height", "width", "side"),
    [*((noise, *size) for size in SIZES), *((smooth, *size) for size in SIZES), (smooth, 64, 16, 32)],
)
def test_resizing_is_bicubic_interpolation(
    make: Callable[[int, int], np.ndarray], height: int, width: int, side: int
) -> None:
    pixels = make(height, width)
    found = decode_image(encoded(pixels), side)
    assert found.shape == (3, side, side)
    np.testing.assert_allclose(found, bicubic(pixels, side), atol=1)


def test_a_grey_image_has_three_equal_channels() -> None:
    levels = noise(16, 16)[..., 0]
    np.testing.assert_array_equal(decode_image(encoded(levels), 16), np.stack([levels] * 3))


def test_a_black_and_white_image_has_levels_0_and_255() -> None:
    bits = noise(16, 16)[..., 0] > 127
    np.testing.assert_array_equal(decode_image(encoded(bits), 16), np.stack([bits * 255] * 3))


def test_transparency_is_left_out() -> None:
    pixels = noise(16, 16, 4)
    np.testing.assert_array_equal(decode_image(encoded(pixels), 16), pixels[..., :3].transpose(2, 0, 1))


def test_a_palette_is_looked_up() -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1, 1, 0])
    expected = np.array([[[10, 200], [200, 10]], [[20, 100], [100, 20]], [[30, 50], [50, 30]]])
    np.testing.assert_array_equal(decode_image(encoded(image), 2), expected)


def test_a_cmyk_jpeg_is_turned_into_rgb() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    levels = decode_image(encoded(red, "JPEG", quality=95), 16).mean(axis=(1, 2))
    np.testing.assert_allclose(levels, [255, 0, 0], atol=6)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_image(data, 8), np.asarray(frames[0]).transpose(2, 0, 1))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.9])
def test_an_image_that_was_cut_short_is_refused(kind: str, share: float) -> None:
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
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(UndecodableImageError, match="cannot be decoded"):
        decode_image(data, 8)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a"]), st.binary(max_size=200))
def test_any_bytes_are_refused(start: bytes, rest: bytes) -> None:
    with pytest.raises(UndecodableImageError):
        decode_image(start + rest, 4)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, max_examples=300)
@given(st.sampled_from(["PNG", "JPEG"]), st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255))))
def test_a_damaged_image_is_either_decoded_or_refused(kind: str, damage: list[tuple[float, int]]) -> None:
    data = bytearray(encoded(smooth(9, 11), kind))
    for place, value in damage:
        data[int(place * len(data))] = value
    try:
        found = decode_image(bytes(data), 4)
    except UndecodableImageError:
        return
    assert found.shape == (3, 4, 4)
    assert found.dtype == np.uint8


def test_as_many_pixels_as_are_allowed_are_decoded_and_no_more() -> None:
    data = encoded(noise(20, 30))
    assert decode_image(data, 4, max_pixels=600).shape == (3, 4, 4)
    with pytest.raises(UndecodableImageError, match="30×20 pixels; allowed are 599"):
        decode_image(data, 4, max_pixels=599)


@pytest.mark.parametrize(("width", "height"), [(8000, 6000), (10_000, 10_000)])
def test_an_image_that_is_too_large_is_refused_by_its_header(width: int, height: int) -> None:
    with pytest.raises(UndecodableImageError, match=f"{width}×{height} pixels; allowed are 40000000"):
        decode_image(png_of_size(width, height), 4)


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (0, 0)])
def test_an_image_of_an_absurd_size_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UndecodableImageError):
        decode_image(png_of_size(*size), 4)
