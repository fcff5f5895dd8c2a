"""Where rows come from: Parquet, image folders, torchvision data sets, and bundled demo data."""

from lmeraser.data.decode import decode_image
from lmeraser.data.sample import Sample, Source
from lmeraser.data.sources import CheckedSamples, check_samples, located, open_public, open_source

__all__ = [
    "CheckedSamples",
    "Sample",
    "Source",
    "check_samples",
    "decode_image",
    "located",
    "open_public",
    "open_source",
]
