"""From encoded images to pixels: the only place where untrusted bytes are decoded.

The result is what a viewer shows: rotated by the EXIF orientation, on white where the image is transparent, with 12 or
16 bits of grey scaled to eight, and the first of several frames or pages. Colour profiles are not applied.

Legend: P pixels per side.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from lmeraser.config.images import Format, ImagesConfig
from lmeraser.data.image_format import format_of
from lmeraser.errors import UndecodableImageError

# For rows that are already in a store: an image that was once accepted must stay readable.
OF_THE_STORE = ImagesConfig(formats=get_args(Format), max_bytes=1 << 62, max_pixels=178_956_970)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(data: bytes, image_px: int, allowed: ImagesConfig = OF_THE_STORE) -> np.ndarray:
    """The image as uint8 RGB [3, P, P], resized to a square by bicubic interpolation.

    Args:
        data: the encoded image.
        image_px: P.
        allowed: what is accepted; by default all that a store may hold.

    Raises:
        UndecodableImageError: with the reason: another format, more bytes or pixels than allowed, pixels of unknown
            range, or a damaged file.
    """
    resized = decode_picture(data, allowed).resize((image_px, image_px), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def decode_picture(data: bytes, allowed: ImagesConfig = OF_THE_STORE) -> Image.Image:
    """The image as RGB at its own size; see :func:`decode_image`."""
    if not data:
        raise UndecodableImageError("the image cannot be decoded: it has no bytes (a path instead of them is not read)")
    if len(data) > allowed.max_bytes:
        raise UndecodableImageError(
            f"the image has {len(data)} bytes; allowed are {allowed.max_bytes} (images.max_bytes)"
        )
    try:
        with warnings.catch_warnings():
            # About large images, for which there is a stricter limit here, and about tags that are not used.
            warnings.simplefilter("ignore")
            # Other formats are not even tried: some plug-ins decode, or start programs, in order to recognise theirs.
            with Image.open(io.BytesIO(data), formats=allowed.formats) as image:
                _check_size(image, allowed.max_pixels)
                encoding = _Encoding.of(image)
                image.load()
                return _upright(image, _rgb(image, encoding))
    except UndecodableImageError:
        raise
    except UnidentifiedImageError:
        raise UndecodableImageError(f"the image cannot be decoded: {_reason(data, allowed)}") from None
    except Exception as error:  # Decoders raise anything, and one bad image must not make others fail.
        raise UndecodableImageError(f"the image cannot be decoded: {error or type(error).__name__}") from error


def _reason(data: bytes, allowed: ImagesConfig) -> str:
    name = format_of(data)
    if name in allowed.formats:
        return f"it begins like a {name} file but is damaged"
    return f"it is {name}; allowed are {', '.join(allowed.formats)} (images.formats)"


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise UndecodableImageError(
            f"the image has {image.width}×{image.height} pixels; allowed are {max_pixels} in all (images.max_pixels)"
        )


@dataclass(frozen=True)
class _Encoding:
    """What Pillow's mode does not say about the samples in a file; it can be read only before the pixels are loaded.

    Attributes:
        white: the sample value of white in mode I;16.
        is_negative: whether 0 is white in mode I;16; Pillow inverts other modes itself.
        transparent: the transparent sample value or values, in terms of the loaded pixels.
    """

    white: int
    is_negative: bool
    transparent: Any

    @staticmethod
    def of(image: Image.Image) -> _Encoding:
        tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
        transparent = image.info.get("transparency")
        # For a PNG it is the value in the file, whereas Pillow scales the samples.
        if isinstance(image, PngImageFile) and transparent is not None:
            samples = image.tile[0].args
            if samples == "RGB;16B":
                transparent = tuple(level >> 8 for level in transparent)
            elif image.mode == "L":
                transparent *= {"L;2": 85, "L;4": 17}.get(str(samples), 1)
        return _Encoding(
            4095 if tags.get(BITSPERSAMPLE) == (12,) else 65535, tags.get(PHOTOMETRIC_INTERPRETATION) == 0, transparent
        )


def _upright(image: Image.Image, pixels: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # A viewer ignores damaged EXIF data.
        return pixels
    return pixels.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else pixels


def _rgb(image: Image.Image, encoding: _Encoding) -> Image.Image:
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating point numbers"
        raise UndecodableImageError(
            f"the image has pixels of mode {image.mode} ({kind}), whose black and white are unknown: "
            "save it as grey or RGB with 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.uint32)
        grey = (levels * 255 + encoding.white // 2) // encoding.white
        if encoding.is_negative:
            grey = 255 - grey
        if encoding.transparent is not None:
            grey[levels == encoding.transparent] = 255
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if encoding.transparent is not None:
        image.info["transparency"] = encoding.transparent
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return image.convert("RGB")
