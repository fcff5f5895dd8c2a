"""Encoded images to pixels.

Legend: P pixels a side.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, UnidentifiedImageError

from lmeraser.errors import UndecodableImageError

MAX_PIXELS = 40_000_000


def decode_image(data: bytes, image_px: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The image as uint8 RGB [3, P, P], resized to a square by bicubic interpolation.

    Raises:
        UndecodableImageError: when the bytes are no image, are cut short, or hold more than ``max_pixels``.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images; the limit here is stricter and is an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                pixels = image.width * image.height
                if pixels > max_pixels:
                    raise UndecodableImageError(
                        f"the image has {image.width}×{image.height} pixels; allowed are {max_pixels} in all"
                    )
                resized = image.convert("RGB").resize((image_px, image_px), Image.Resampling.BICUBIC)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise UndecodableImageError(f"the image cannot be decoded: {error}") from error
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))
