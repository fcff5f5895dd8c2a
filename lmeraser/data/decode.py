"""Encoded images to pixels: the one place where bytes of strangers are decoded.

An image becomes what a viewer shows of it: turned as its EXIF orientation says, on white where it is transparent, with
16 bits of grey scaled to eight, and of several frames or pages the first. Colour profiles are not applied.

Legend: P pixels a side.
"""

from __future__ import annotations

import io
import warnings
from typing import get_args

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from lmeraser.data.image_format import format_of
from lmeraser.errors import UndecodableImageError
from lmeraser.images_config import Format, ImagesConfig

# For rows that are in the store already: what was taken once must be readable for as long as it is there.
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
        allowed: what is taken; by default all that a store may hold.

    Raises:
        UndecodableImageError: with the reason, whatever is wrong with the image: another format, more bytes or pixels
            than are allowed, pixels whose range is not known, or damage.
    """
    if not data:
        raise UndecodableImageError("the image cannot be decoded: it has no bytes (a path in their place is not read)")
    if len(data) > allowed.max_bytes:
        raise UndecodableImageError(
            f"the image has {len(data)} bytes; allowed are {allowed.max_bytes} (images.max_bytes)"
        )
    try:
        with warnings.catch_warnings():
            # Of large images, whose limit here is stricter and an error, and of tags that are not read.
            warnings.simplefilter("ignore")
            # Formats that are not asked for are not even looked at: some of them decode, or start programs, to do so.
            with Image.open(io.BytesIO(data), formats=allowed.formats) as image:
                _check_size(image, allowed.max_pixels)
                image.load()
                resized = _rgb(_upright(image)).resize((image_px, image_px), Image.Resampling.BICUBIC)
    except UndecodableImageError:
        raise
    except UnidentifiedImageError:
        raise UndecodableImageError(f"the image cannot be decoded: {_unknown(data, allowed)}") from None
    except Exception as error:  # Decoders raise what they like, and one bad image must not take others along.
        raise UndecodableImageError(f"the image cannot be decoded: {error or type(error).__name__}") from error
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def _unknown(data: bytes, allowed: ImagesConfig) -> str:
    name = format_of(data)
    if name in allowed.formats:
        return f"it begins as {name}, and goes on as none"
    return f"it is {name}; allowed are {', '.join(allowed.formats)} (images.formats)"


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise UndecodableImageError(
            f"the image has {image.width}×{image.height} pixels; allowed are {max_pixels} in all (images.max_pixels)"
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # A viewer shows an image whose EXIF is damaged as it lies.
        return image
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating point numbers"
        raise UndecodableImageError(
            f"the image has pixels of mode {image.mode} ({kind}), whose black and white are not known: "
            "save it as grey or RGB with 8 or 16 bits"
        )
    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return image.convert("RGB")
