"""Where rows come from: Parquet, image folders, torchvision data sets, and bundled demo data."""

from lmeraser.data.decode import decode_image
from lmeraser.data.sample import Sample, Source

__all__ = ["Sample", "Source", "decode_image"]
