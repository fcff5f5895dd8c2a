"""What a user may set about encoded images; it holds for rows that come in and for predictions alike."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Format = Literal["AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class ImagesConfig:
    """Which images are taken. Rows that are in a store stay there, whatever is set here afterwards.

    Attributes:
        formats: those that are decoded, found by what a file holds and not by its name.
        max_bytes: size of one encoded image.
        max_pixels: width times height of one image, read before it is decoded. Pillow itself takes no more than the
            most that is allowed here.
    """

    formats: tuple[Format, ...] = Field(default=("AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"), min_length=1)
    max_bytes: int = Field(default=8_000_000, ge=1)
    max_pixels: int = Field(default=40_000_000, ge=1, le=178_956_970)
