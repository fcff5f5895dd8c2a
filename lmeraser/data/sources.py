"""From a source's configuration to its rows, and the checks that rows must pass."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace

from lmeraser.config import SourceConfig
from lmeraser.data.bundled import DigitsSource, GlyphsSource
from lmeraser.data.decode import decode_image
from lmeraser.data.image_folder import ImageFolderSource
from lmeraser.data.parquet import ParquetSource
from lmeraser.data.sample import Sample, Source
from lmeraser.data.torchvision_dataset import TorchvisionSource
from lmeraser.errors import ConfigError, DataError, DuplicateSampleError, UndecodableImageError, UnknownLabelError
from lmeraser.hashing import draw_uint64
from lmeraser.store.location import SCHEME, local_path

_NAMED_IN_MESSAGE = 10


def open_source(config: SourceConfig) -> Source:
    """The source that the configuration names.

    Raises:
        DataError: when it cannot be read.
        ConfigError: when torchvision has no such data set, or its kind cannot be read from S3.
    """
    source: Source
    if config.path.startswith(SCHEME) and config.kind != "parquet":
        raise ConfigError(f"a {config.kind} source has the path {config.path!r}; only parquet is read from S3")
    path = local_path(config.path)
    match config.kind:
        case "parquet":
            source = ParquetSource(config.path if config.path.startswith(SCHEME) else str(path))
        case "image_folder":
            source = ImageFolderSource(path)
        case "torchvision":
            source = TorchvisionSource(config.dataset, path, config.split)
        case "digits":
            source = DigitsSource(config.split)
        case "glyphs":
            source = GlyphsSource()
    return source if config.max_rows is None else _Drawn(source, config.max_rows)


def open_public(config: SourceConfig) -> Source:
    """The source of the public rows, whose labels come with the data.

    Raises:
        DataError: when it cannot be read, or declares no label names.
        ConfigError: when torchvision has no such data set.
    """
    source = open_source(config)
    if not source.labels:
        raise DataError(
            f"{config.path} declares no label names, which public rows need: Parquet has them as ClassLabel in the "
            "metadata of its schema, an image folder as the names of its subfolders"
        )
    return source


def located(config: SourceConfig) -> SourceConfig:
    """The same source with its path from the root: processes elsewhere have other working folders."""
    if not config.path or config.path.startswith(SCHEME):
        return config
    return replace(config, path=str(local_path(config.path)))


class CheckedSamples:
    """Samples that can be used, one after the other; iterate once.

    Attributes:
        skipped: ids of undecodable samples that were left out so far.
    """

    def __init__(self, samples: Iterable[Sample], labels: tuple[str, ...], skip_bad: bool) -> None:
        self._samples = samples
        self._labels = labels
        self._skip_bad = skip_bad
        self.skipped: list[str] = []

    def __iter__(self) -> Iterator[Sample]:
        seen: set[str] = set()
        for sample in self._samples:
            if sample.sample_id in seen:
                raise DuplicateSampleError(f"sample id {sample.sample_id!r} comes more than once")
            seen.add(sample.sample_id)
            if not 0 <= sample.label < len(self._labels):
                raise UnknownLabelError(
                    f"sample {sample.sample_id!r} has the label {sample.label}; allowed is 0 to {len(self._labels) - 1}"
                )
            try:
                decode_image(sample.image, 1)
            except UndecodableImageError:
                self.skipped.append(sample.sample_id)
            else:
                yield sample
        if self.skipped and not self._skip_bad:
            named = ", ".join(repr(name) for name in self.skipped[:_NAMED_IN_MESSAGE])
            more = f" and {len(self.skipped) - _NAMED_IN_MESSAGE} more" if len(self.skipped) > _NAMED_IN_MESSAGE else ""
            raise UndecodableImageError(
                f"{len(self.skipped)} image(s) cannot be decoded: {named}{more}; --skip-bad leaves them out"
            )


def check_samples(samples: Iterable[Sample], labels: tuple[str, ...], *, skip_bad: bool) -> CheckedSamples:
    """The samples, each checked when it comes.

    Iterating raises DuplicateSampleError on a sample id that comes again and UnknownLabelError on a label outside the
    list, at once; and UndecodableImageError with the ids of all undecodable images, at the end, unless ``skip_bad``.
    """
    return CheckedSamples(samples, labels, skip_bad)


class _Drawn:
    """Some rows of a source: those with the lowest hashes of their sample ids."""

    def __init__(self, source: Source, rows: int) -> None:
        self._source = source
        self._rows = rows
        self.labels = source.labels

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples."""
        hashes = (draw_uint64(0, "rows", sample.sample_id) for sample in self._source.samples(labels))
        lowest = heapq.nsmallest(self._rows, hashes)
        for sample in self._source.samples(labels):
            if lowest and draw_uint64(0, "rows", sample.sample_id) <= lowest[-1]:
                yield sample
