"""Options for encoded images; they apply to new rows and to predictions alike."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Format = Literal["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class ImagesConfig:
    """Which images are accepted. Rows that are already in a store stay there, even if this setting changes later.

    Attributes:
        formats: formats that are decoded; a file's format is determined by its content, not by its name.
        max_bytes: largest size of an encoded image.
        max_pixels: largest width times height of an image, checked before it is decoded. The upper limit of this option
            is Pillow's own.
    """

    formats: tuple[Format, ...] = Field(default=("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"), min_length=1)
    max_bytes: int = Field(default=8_000_000, ge=1)
    max_pixels: int = Field(default=40_000_000, ge=1, le=178_956_970)
