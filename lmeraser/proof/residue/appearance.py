"""What an erased row's image leaves behind: its bytes, its pixels and its features, each by a few stretches of them.

Legend: N images, H head features, Y X rows and columns of pixels, P pixels a side as the backbone takes them.
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

# Fewer distinct bytes are a plain surface, as any file may hold.
_LEAST_DISTINCT = 16


def appearances(pipeline: Pipeline, images: Sequence[bytes], remaining: Iterable[RowTable]) -> dict[bytes, str]:
    """Stretches of bytes by what they are a part of.

    What remaining rows have in common with an image, such as a camera's preamble, is no trace of it and is left out.

    Raises:
        UndecodableImageError: when one of the images is none.
    """
    rows = pipeline.rows(Sample(f"{place:08d}", None, 0, image) for place, image in enumerate(images))
    found: dict[bytes, str] = {}
    wholes = set(images)
    for place, (image, features_H) in enumerate(zip(images, rows.features_NH, strict=True), start=1):
        found |= dict.fromkeys(regions(image, 3), f"image {place}")
        found |= dict.fromkeys(_pixels(image), f"pixels of image {place}")
        for features in _as_stored(features_H):
            wholes.add(features)
            found |= dict.fromkeys(regions(features, 1), f"features of image {place}")
    others = (whole for table in remaining for whole in _wholes(table) if whole not in wholes)
    shared = held_elsewhere(found, others)
    kept = {part: what for part, what in found.items() if part not in shared}
    # Where all of it is shared, only the whole tells.
    lost = {place for place in range(len(images)) if f"image {place + 1}" not in kept.values()}
    return kept | {images[place]: f"image {place + 1}" for place in lost}


def _wholes(table: RowTable) -> Iterator[bytes]:
    yield from table.images
    for features_H in table.features_NH:
        yield from _as_stored(features_H)


def _as_stored(features_H: np.ndarray) -> tuple[bytes, bytes]:
    """Features as int16 in memory, and as int32 in Parquet."""
    return features_H.astype("<i2").tobytes(), features_H.astype("<i4").tobytes()


def _pixels(image: bytes) -> Iterator[bytes]:
    """From the row of pixels that has most to it: as RGB, as a bitmap file has it, and one colour of it."""
    with Image.open(io.BytesIO(image)) as opened:
        pixels_YX3 = np.asarray(opened.convert("RGB"))
    rows = pixels_YX3[:: max(len(pixels_YX3) // 16, 1)]
    row_X3 = max(rows, key=lambda row: len(np.unique(row)))
    for bytes_of_row in (row_X3.tobytes(), row_X3[:, ::-1].tobytes(), row_X3[:, 0].tobytes()):
        middle = max((len(bytes_of_row) - REGION) // 2, 0)
        part = bytes_of_row[middle : middle + REGION]
        if len(set(part)) >= _LEAST_DISTINCT:
            yield part
