"""Decoding: pixels as they were encoded, resized as bicubic interpolation says, and a plain error for the rest."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from encoded_images import encoded, noise, png_chunk, smooth
from PIL import Image

from lmeraser.data import decode_image
from lmeraser.errors import UndecodableImageError


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
    decoded = decode_image(encoded(pixels), 32)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_every_lossless_format_gives_the_same_pixels(kind: str) -> None:
    np.testing.assert_array_equal(decode_image(encoded(noise(16, 16), kind), 16), noise(16, 16).transpose(2, 0, 1))


def test_a_jpeg_gives_nearly_the_pixels_that_were_encoded() -> None:
    pixels = smooth(40, 40)
    decoded = decode_image(encoded(pixels, "JPEG", quality=98, subsampling=0), 40)
    assert np.abs(decoded.astype(int) - pixels.transpose(2, 0, 1)).max() <= 8


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 20}])
def test_a_jpeg_gives_the_pixels_that_pillow_reads(options: dict[str, object]) -> None:
    data = encoded(noise(40, 40), "JPEG", **options)
    np.testing.assert_array_equal(decode_image(data, 40), np.asarray(Image.open(io.BytesIO(data))).transpose(2, 0, 1))


# Where one side shrinks and the other grows, clipping between the two passes depends on their order: no noise there.
SIZES = [(48, 64, 32), (20, 31, 64), (8, 8, 33), (57, 57, 1), (1, 1, 5)]


@pytest.mark.parametrize(
    ("make", "height", "width", "side"),
    [*((noise, *size) for size in SIZES), *((smooth, *size) for size in SIZES), (smooth, 64, 16, 32)],
)
def test_resizing_is_bicubic_interpolation(
    make: Callable[[int, int], np.ndarray], height: int, width: int, side: int
) -> None:
    pixels = make(height, width)
    decoded = decode_image(encoded(pixels), side)
    assert decoded.shape == (3, side, side)
    np.testing.assert_allclose(decoded, bicubic(pixels, side), atol=1)


def test_a_grey_image_has_three_equal_channels() -> None:
    levels = noise(16, 16)[..., 0]
    np.testing.assert_array_equal(decode_image(encoded(levels), 16), np.stack([levels] * 3))


def test_a_black_and_white_image_has_levels_0_and_255() -> None:
    bits = noise(16, 16)[..., 0] > 127
    np.testing.assert_array_equal(decode_image(encoded(bits), 16), np.stack([bits * 255] * 3))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_pixels_are_white(kind: str) -> None:
    pixels = noise(16, 16, 4)
    pixels[:4, :, 3], pixels[4:8, :, 3] = 0, 255
    alpha = pixels[..., 3:] / 255
    expected = pixels[..., :3] * alpha + 255 * (1 - alpha)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    decoded = decode_image(encoded(pixels, kind, **options), 16)
    np.testing.assert_allclose(decoded, expected.transpose(2, 0, 1), atol=1)
    np.testing.assert_array_equal(decoded[:, 4:8], pixels[4:8, :, :3].transpose(2, 0, 1))
    assert (decoded[:, :4] == 255).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "LA", "1"])
def test_transparent_pixels_of_every_mode_are_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 255))
    for index in range(8):
        image.putpixel((index % 4, index // 4), (255, 255, 255, 0))
    if mode == "LA":
        data = encoded(image.convert("LA"))
    elif mode == "P":
        palette = Image.new("P", (4, 4), 0)
        palette.putpalette([0, 0, 0, 90, 90, 90])
        for index in range(8):
            palette.putpixel((index % 4, index // 4), 1)
        data = encoded(palette, transparency=1)
    else:
        see_through = {"L": 255, "RGB": (255, 255, 255), "1": 1}[mode]
        data = encoded(image.convert("RGB").convert(mode), transparency=see_through)
    assert decode_image(data, 4).tolist() == [[[255] * 4, [255] * 4, [0] * 4, [0] * 4]] * 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_become_eight(kind: str) -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    decoded = decode_image(encoded(Image.fromarray(levels), kind), 256)
    np.testing.assert_array_equal(decoded[0], np.round(levels / 257))
    assert (decoded[0] == decoded[1]).all() and (decoded[0] == decoded[2]).all()


def test_big_endian_sixteen_bits_of_grey_become_eight() -> None:
    levels = np.arange(65536, dtype=">u2").reshape(256, 256)
    tags = struct.pack(">H", 8)
    for tag, kind, value in ((256, 3, 256), (257, 3, 256), (258, 3, 16), (259, 3, 1), (262, 3, 1)):
        tags += struct.pack(">HHIHH", tag, kind, 1, value, 0)
    for tag, value in ((273, 8 + 2 + 8 * 12 + 4), (278, 256), (279, 131072)):
        tags += struct.pack(">HHII", tag, 4, 1, value)
    data = b"MM\0*" + struct.pack(">I", 8) + tags + struct.pack(">I", 0) + levels.tobytes()
    np.testing.assert_array_equal(decode_image(data, 256)[1], np.round(levels / 257))


def grey_tiff(packed: bytes, side: int, bits: int, photometric: int) -> bytes:
    """A TIFF of one strip, little-endian (TIFF 6.0, section 4)."""
    tags = struct.pack("<H", 8)
    for tag, value in ((256, side), (257, side), (258, bits), (259, 1), (262, photometric)):
        tags += struct.pack("<HHIHH", tag, 3, 1, value, 0)
    for tag, value in ((273, 8 + 2 + 8 * 12 + 4), (278, side), (279, len(packed))):
        tags += struct.pack("<HHII", tag, 4, 1, value)
    return b"II*\0" + struct.pack("<I", 8) + tags + struct.pack("<I", 0) + packed


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_a_grey_tiff_of_every_depth_says_which_level_is_white(bits: int, white_is_zero: bool) -> None:
    side = 16
    levels = noise(side, side)[..., 0].astype(np.uint32) * 257 >> (16 - bits)
    planes = (levels[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    packed = levels.astype("<u2").tobytes() if bits == 16 else np.packbits(planes.reshape(side, -1), axis=1).tobytes()
    shown = np.round(levels * 255 / (2**bits - 1))
    decoded = decode_image(grey_tiff(packed, side, bits, 0 if white_is_zero else 1), side)
    np.testing.assert_array_equal(decoded, np.stack([255 - shown if white_is_zero else shown] * 3))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_sixteen_bits_whose_zero_is_white_are_inverted(compression: str) -> None:
    levels = noise(16, 16)[..., 0].astype(np.uint16) * 257
    image = Image.fromarray(sideways(levels, 6))
    data = encoded(image, "TIFF", compression=compression, tiffinfo={262: 0, 0x0112: 6})
    np.testing.assert_array_equal(decode_image(data, 16), np.stack([255 - levels // 257] * 3))


def test_twelve_bits_of_grey_become_eight() -> None:
    levels = np.arange(4096, dtype=np.uint32).reshape(64, 64)
    planes = (levels[..., None] >> np.arange(11, -1, -1)) & 1
    decoded = decode_image(grey_tiff(np.packbits(planes).tobytes(), 64, 12, 1), 64)
    np.testing.assert_array_equal(decoded[0], np.round(levels * 255 / 4095))


def png_of(bits: int, colour: int, row: bytes, side: int, transparent: tuple[int, ...]) -> bytes:
    """A PNG whose rows are all the same, and one colour of which is transparent (PNG, section 11.3.2.1)."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0))
    clear = png_chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    pixels = png_chunk(b"IDAT", zlib.compress((b"\0" + row) * side))
    return b"\x89PNG\r\n\x1a\n" + header + clear + pixels + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_level_of_a_grey_png_is_white_at_every_depth(bits: int) -> None:
    most = 2**bits - 1
    levels = np.array([most, 1, 0, 0, most, 1, most, 0] if bits > 1 else [1, 0, 0, 0, 1, 0, 1, 0], dtype=np.uint32)
    planes = (levels[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    row = np.packbits(planes.reshape(-1)).tobytes()
    for clear in {0, 1, most}:
        shown = np.where(levels == clear, 255, np.round(levels * 255 / most))
        decoded = decode_image(png_of(bits, 0, row, 8, (clear,)), 8)
        np.testing.assert_array_equal(decoded, np.broadcast_to(shown, (3, 8, 8)))


def test_the_transparent_colour_of_a_png_with_16_bits_is_white() -> None:
    row = np.array([[0, 257, 514], [65535, 0, 0], [0, 257, 514], [0, 0, 0]], dtype=">u2").tobytes()
    decoded = decode_image(png_of(16, 2, row, 4, (0, 257, 514)), 4)
    assert decoded[:, 0].tolist() == [[255, 255, 255, 0], [255, 0, 255, 0], [255, 0, 255, 0]]


@pytest.mark.parametrize(("mode", "message"), [("F", "mode F .floating point"), ("I", "mode I .32-bit integers")])
def test_pixels_whose_black_and_white_are_unknown_are_refused_by_their_mode(mode: str, message: str) -> None:
    with pytest.raises(UndecodableImageError, match=rf"{message}.*grey or RGB with 8 or 16 bits"):
        decode_image(encoded(Image.new(mode, (8, 8)), "TIFF"), 8)


def sideways(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels as a camera lays them down that says this orientation (TIFF 6.0, tag 274) of them."""
    laid_down = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p, -1),
    }
    return np.ascontiguousarray(laid_down[orientation](pixels))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_rotated_by_its_exif_orientation(kind: str, orientation: int) -> None:
    upright = smooth(24, 40)
    lossless: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(encoded(sideways(upright, orientation), kind, exif=exif, **lossless.get(kind, {})), 20)
    expected = decode_image(encoded(upright), 20)
    np.testing.assert_allclose(decoded.astype(int), expected, atol=8 if kind == "AVIF" else 0)


def test_a_jpeg_is_rotated_too_and_damaged_exif_data_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = smooth(24, 40)
    data = encoded(sideways(upright, 6), "JPEG", quality=98, subsampling=0, exif=exif)
    decoded = decode_image(data, 20)
    assert np.abs(decoded.astype(int) - decode_image(encoded(upright), 20)).max() <= 12
    start = data.index(b"Exif\0\0") + 6
    damaged = data[:start] + b"XX" + data[start + 2 :]
    decoded = decode_image(damaged, 20)
    assert np.abs(decoded.astype(int) - decode_image(encoded(sideways(upright, 6)), 20)).max() <= 12


def test_a_palette_is_looked_up() -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1, 1, 0])
    expected = np.array([[[10, 200], [200, 10]], [[20, 100], [100, 20]], [[30, 50], [50, 30]]])
    np.testing.assert_array_equal(decode_image(encoded(image), 2), expected)


def test_a_cmyk_jpeg_is_converted_to_rgb() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    levels = decode_image(encoded(red, "JPEG", quality=95), 16).mean(axis=(1, 2))
    np.testing.assert_allclose(levels, [255, 0, 0], atol=6)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(decode_image(data, 8), np.asarray(frames[0]).transpose(2, 0, 1))
