"""From the forms in which programs hold images to the bytes of an image file."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, TypeGuard

import numpy as np
from PIL import Image
from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

from lmeraser.errors import DataError, LMEraserError

ImageLike = (
    bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes] | Mapping[str, Any] | np.ndarray | Image.Image
)
_ALLOWED = (
    "allowed are a path, encoded bytes, a file that is open in binary mode, a PIL image, a uint8 array [H, W, 3] or "
    '[H, W], and a mapping {"bytes": …, "path": …}'
)


def is_one_image(value: object) -> TypeGuard[ImageLike]:
    """Whether the value is one image, not several."""
    kinds = (bytes, bytearray, memoryview, str, os.PathLike, Mapping, np.ndarray, Image.Image)
    return isinstance(value, kinds) or hasattr(value, "read")


def not_an_image(value: object) -> DataError:
    """The error for a value that is not an image."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return DataError(f"a value of the type {name} is not an image: {_ALLOWED}")


def encoded_image(image: object) -> bytes:
    """The image as the bytes of an image file.

    Raises:
        DataError: when a path or a file cannot be read, or the value is not an image.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return _of_path(image)
    if isinstance(image, Mapping):
        return _of_mapping(image)
    if isinstance(image, np.ndarray):
        return _of_array(image)
    if isinstance(image, Image.Image):
        return _of_pil(image)
    read = getattr(image, "read", None)
    if callable(read):
        return _of_file(image, read)
    raise not_an_image(image)


def _of_path(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the path.
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read the image {os.fspath(path)[:200]}: {reason}") from error


def _of_file(file: object, read: Any) -> bytes:
    try:
        data = read()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read the image from {type(file).__name__}: {error}") from error
    if isinstance(data, str):
        raise DataError(f'the file {getattr(file, "name", "")} is open for reading text; open it with mode "rb"')
    if not isinstance(data, bytes | bytearray | memoryview):
        raise not_an_image(data)
    return bytes(data)


def _of_mapping(image: Mapping[str, Any]) -> bytes:
    """An image of Hugging Face's ``datasets``: its bytes, or else its path."""
    if not image.keys() <= {"bytes", "path"} or (image.get("bytes") is None and image.get("path") is None):
        keys = ", ".join(map(repr, image))
        raise DataError(f"a mapping with the keys {keys or 'none'} and no bytes or path is not an image: {_ALLOWED}")
    return encoded_image(image["bytes"] if image.get("bytes") is not None else image["path"])


def _of_array(pixels: np.ndarray) -> bytes:
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise DataError(
            f"an array {pixels.dtype}{list(pixels.shape)} is not an image: allowed is uint8 [H, W, 3] or [H, W]"
        )
    if 0 in pixels.shape:
        raise DataError(f"an array {pixels.dtype}{list(pixels.shape)} has no pixels")
    return _as_png(Image.fromarray(pixels))


def _of_pil(image: Image.Image) -> bytes:
    try:
        return _as_encoded(image)
    except LMEraserError:
        raise
    except Exception as error:
        # Closed, truncated, damaged: Pillow reads the file only now, and raises errors of many kinds.
        name = getattr(image, "filename", "") or type(image).__name__
        raise DataError(f"cannot read the PIL image {name}: {error or type(error).__name__}; {_ALLOWED}") from error


def _as_encoded(image: Image.Image) -> bytes:
    if image.mode in ("I", "F"):
        # Only the caller knows which values are black and white.
        raise DataError(
            f"an image of mode {image.mode!r} has no known black and white: scale it to 8 bits, mode 'L' or 'RGB'"
        )
    transparent = _transparent(image)
    if image.mode.startswith("I;16"):
        # The service scales 16 bits, as it does for every other caller.
        return _as_png(_grey(image), image, transparent)
    if transparent is None:
        return _as_png(image.convert("RGBA" if image.has_transparency_data else "RGB"), image)
    # Kept in the image: in a second call the scale of its file is no longer known.
    image.info["transparency"] = transparent
    # The service puts transparent images on white, as it does for every other caller.
    return _as_png(image.convert("RGBA"), image)


def _transparent(image: Image.Image) -> Any:
    """The transparent sample or samples, in the scale of the pixels that Pillow loads; None if there are none.

    A PNG file names them in its own scale, which is unknown once the pixels are loaded.
    """
    samples = image.info.get("transparency")
    if samples is None or not isinstance(image, PngImageFile) or not image.tile:
        return samples
    file_mode = str(image.tile[0].args)
    if file_mode == "RGB;16B":
        return tuple(level >> 8 for level in samples)
    return samples * {"L;2": 85, "L;4": 17}.get(file_mode, 1) if image.mode == "L" else samples


def _grey(image: Image.Image) -> Image.Image:
    """Grey levels from 0, black, to 65535, white; a TIFF file may have 12 bits, or its white at 0."""
    tags = getattr(image, "tag_v2", {})
    levels = np.asarray(image).astype(np.uint32)
    if tags.get(BITSPERSAMPLE) == (12,):
        levels = (levels * 65535 + 2047) // 4095
    if tags.get(PHOTOMETRIC_INTERPRETATION) == 0:
        levels = 65535 - levels
    return Image.fromarray(levels.astype(np.uint16))


def _as_png(image: Image.Image, original: Image.Image | None = None, transparent: Any = None) -> bytes:
    """The image as PNG, which is lossless, with the EXIF orientation of the original and no other metadata."""
    exif = Image.Exif()
    if original is not None and (orientation := original.getexif().get(Base.Orientation)):
        exif[Base.Orientation] = orientation
    buffer = io.BytesIO()
    options = {} if transparent is None else {"transparency": transparent}
    image.save(buffer, format="PNG", compress_level=1, exif=exif, **options)
    return buffer.getvalue()
