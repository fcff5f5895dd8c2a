"""Suffixes of image files, and names for data that no allowed decoder recognises, for an error to say what it is."""

from __future__ import annotations

from PIL import Image

from lmeraser.config import ImagesConfig

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_BEGINNINGS = {
    b"\x89PNG\r\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF or a camera's raw file",
    b"MM\0*": "TIFF or a camera's raw file",
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"%PDF": "PDF",
    b"8BPS": "a Photoshop file",
    b"\0\0\1\0": "ICO",
    b"icns": "ICNS",
    b"\0\0\0\x0cjP  ": "JPEG2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"DDS ": "DDS",
    b"\x1f\x8b": "a gzip file",
    b"PK\3\4": "a zip file",
    b"\x93NUMPY": "a NumPy array",
    b"<svg": "SVG",
    b"<?xml": "XML, perhaps SVG",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs": "a Git LFS pointer instead of the file",
    b"data:": "a data URL instead of the bytes in it",
    b"iVBORw0KGgo": "base64 text of a PNG instead of its bytes",
    b"/9j/": "base64 text of a JPEG instead of its bytes",
}


def format_of(data: bytes) -> str:
    """The name of the format, or that it is unknown. It contains none of the bytes themselves."""
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        return "HEIC" if brand in _HEIC_BRANDS else "AVIF" if brand in (b"avif", b"avis") else "a video"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    names = (name for beginning, name in _BEGINNINGS.items() if data.startswith(beginning))
    return next(names, "of no known format")


def suffixes_of(images: ImagesConfig) -> frozenset[str]:
    """The suffixes that files of the allowed formats have, such as ".png"."""
    Image.init()
    return frozenset(suffix for suffix, kind in Image.EXTENSION.items() if kind in images.formats)
