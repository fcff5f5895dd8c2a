"""Traces of the image of an erased row: short parts of its bytes, its pixels and its features.

Legend: N images, H head features, Y X rows and columns of pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from PIL import Image

from lmeraser.data import Sample
from lmeraser.proof.residue.needles import REGION, held_elsewhere, regions
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.rows import RowTable

# Parts with fewer distinct bytes are plain areas, which any file may contain.
_LEAST_DISTINCT = 16


def appearances(pipeline: Pipeline, images: Sequence[bytes], remaining: Iterable[RowTable]) -> dict[bytes, str]:
    """Parts of the images, each with a description of what it is a part of.

    Parts that remaining rows also contain, such as a camera's header, are not traces and are left out.

    Raises:
        UndecodableImageError: when one of the images cannot be decoded.
    """
    rows = pipeline.rows(Sample(f"{index:08d}", None, 0, image) for index, image in enumerate(images))
    traces: dict[bytes, str] = {}
    wholes = set(images)
    for number, (image, features_H) in enumerate(zip(images, rows.features_NH, strict=True), start=1):
        traces |= dict.fromkeys(regions(image, 3), f"image {number}")
        traces |= dict.fromkeys(_pixels(image), f"pixels of image {number}")
        for features in _as_stored(features_H):
            wholes.add(features)
            traces |= dict.fromkeys(regions(features, 1), f"features of image {number}")
    others = (whole for table in remaining for whole in _wholes(table) if whole not in wholes)
    shared = held_elsewhere(traces, others)
    kept = {part: what for part, what in traces.items() if part not in shared}
    # If all parts of an image are shared, only the whole image identifies it.
    indistinct = {index for index in range(len(images)) if f"image {index + 1}" not in kept.values()}
    return kept | {images[index]: f"image {index + 1}" for index in indistinct}


def _wholes(table: RowTable) -> Iterator[bytes]:
    yield from table.images
    for features_H in table.features_NH:
        yield from _as_stored(features_H)


def _as_stored(features_H: np.ndarray) -> tuple[bytes, bytes]:
    """Features as int16 in memory, and as int32 in Parquet."""
    return features_H.astype("<i2").tobytes(), features_H.astype("<i4").tobytes()


def _pixels(image: bytes) -> Iterator[bytes]:
    """Parts of the most varied row of pixels: as RGB, as in a bitmap file, and one colour alone."""
    with Image.open(io.BytesIO(image)) as opened:
        pixels_YX3 = np.asarray(opened.convert("RGB"))
    rows = pixels_YX3[:: max(len(pixels_YX3) // 16, 1)]
    row_X3 = max(rows, key=lambda row: len(np.unique(row)))
    for bytes_of_row in (row_X3.tobytes(), row_X3[:, ::-1].tobytes(), row_X3[:, 0].tobytes()):
        middle = max((len(bytes_of_row) - REGION) // 2, 0)
        part = bytes_of_row[middle : middle + REGION]
        if len(set(part)) >= _LEAST_DISTINCT:
            yield part
