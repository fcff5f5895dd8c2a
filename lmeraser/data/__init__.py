"""Where rows come from: Parquet, image folders, torchvision data sets, and bundled demo data."""

from lmeraser.data.checks import CheckedSamples, SampleChecks, check_samples, unusable_images
from lmeraser.data.decode import decode_image
from lmeraser.data.sample import Sample, Source, SourceReport, sample_chunks
from lmeraser.data.sources import declared_labels, located, open_public, open_source

__all__ = [
    "CheckedSamples",
    "Sample",
    "SampleChecks",
    "Source",
    "SourceReport",
    "check_samples",
    "declared_labels",
    "decode_image",
    "located",
    "open_public",
    "open_source",
    "sample_chunks",
    "unusable_images",
]
