"""From a source's configuration to its rows, and the checks that rows must pass."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from lmeraser.config import ImagesConfig, SourceConfig
from lmeraser.data.decode import OF_THE_STORE, decode_image
from lmeraser.data.image_folder import ImageFolderSource
from lmeraser.data.parquet import ParquetSource
from lmeraser.data.sample import Sample, Source, SourceReport
from lmeraser.data.torchvision_dataset import TorchvisionSource
from lmeraser.errors import ConfigError, DataError, DuplicateSampleError, UndecodableImageError, UnknownLabelError
from lmeraser.extras import needs_extra
from lmeraser.hashing import HashKey, draw_uint64
from lmeraser.ids import comparable
from lmeraser.store.location import SCHEME, local_path

_NAMED_IN_MESSAGE = 10


def open_source(
    config: SourceConfig,
    *,
    images: ImagesConfig | None = None,
    name_key: HashKey | None = None,
    report: SourceReport | None = None,
) -> Source:
    """The source that the configuration names.

    Args:
        config: names it.
        images: which images are taken; of an image folder, the files with these formats' suffixes.
        name_key: the store's hash key, under which rows without a sample id are named; without it the names are the
            same in every store, and tell who has the image that it is there.
        report: filled at every reading.

    Raises:
        DataError: when it cannot be read.
        ConfigError: when torchvision has no such data set, or its kind cannot be read from S3.
        MissingExtraError: for digits or glyphs without the extra ``demo``.
    """
    source: Source
    if config.path.startswith(SCHEME) and config.kind != "parquet":
        raise ConfigError(f"a {config.kind} source has the path {config.path!r}; only parquet is read from S3")
    path = local_path(config.path)
    report = report or SourceReport()
    match config.kind:
        case "parquet":
            place = config.path if config.path.startswith(SCHEME) else str(path)
            source = ParquetSource(place, config.split, name_key, report)
        case "image_folder":
            source = ImageFolderSource(path, images or ImagesConfig(), report)
        case "torchvision":
            source = TorchvisionSource(config.dataset, path, config.split, name_key, report)
        case "digits":
            with needs_extra("demo"):
                from lmeraser.data.demo.bundled import DigitsSource

            source = DigitsSource(config.split or "train")
        case "glyphs":
            with needs_extra("demo"):
                from lmeraser.data.demo.bundled import GlyphsSource

            source = GlyphsSource()
    return source if config.max_rows is None else _Drawn(source, config.max_rows)


def open_public(config: SourceConfig, images: ImagesConfig | None = None, report: SourceReport | None = None) -> Source:
    """The source of the public rows, whose labels come with the data; see :func:`open_source`.

    Raises:
        DataError: when it cannot be read, or declares no label names.
        ConfigError: when torchvision has no such data set.
    """
    source = open_source(config, images=images, report=report)
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


def declared_labels(config: SourceConfig) -> tuple[str, ...]:
    """The label names that a source declares, for a configuration that lists none.

    Raises:
        DataError: when it declares none; the message tells what its rows have.
        ConfigError: see open_source.
    """
    source = open_source(replace(config, max_rows=None))
    if not source.labels:
        seen = source.labels_seen(_NAMED_IN_MESSAGE) if isinstance(source, ParquetSource) else []
        told = f"; its column label holds {', '.join(seen)}" if seen else ""
        raise DataError(
            f"the rows in {config.path} declare no label names: list them under `labels:` in the configuration, in the "
            f"order of their numbers where the rows have numbers{told}"
        )
    return source.labels


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED_IN_MESSAGE
    return ", ".join(map(repr, names[:_NAMED_IN_MESSAGE])) + (f" and {more} more" if more > 0 else "")


class CheckedSamples:
    """Samples that can be used, one after the other; iterate once.

    Attributes:
        skipped: the reasons for which samples were left out so far, by sample id.
    """

    def __init__(
        self, samples: Iterable[Sample], labels: tuple[str, ...], skip_bad: bool, images: ImagesConfig
    ) -> None:
        self._samples = samples
        self._labels = labels
        self._skip_bad = skip_bad
        self._images = images
        self.skipped: dict[str, str] = {}

    def __iter__(self) -> Iterator[Sample]:
        seen: set[str] = set()
        good = 0
        for sample in self._samples:
            compared = comparable(sample.sample_id)
            if compared in seen:
                raise DuplicateSampleError(f"sample id {sample.sample_id!r} comes more than once")
            seen.add(compared)
            if not 0 <= sample.label < len(self._labels):
                raise UnknownLabelError(
                    f"sample {sample.sample_id!r} has the label {sample.label}; allowed is 0 to {len(self._labels) - 1}"
                )
            try:
                decode_image(sample.image, 1, self._images)
            except UndecodableImageError as error:
                self.skipped[sample.sample_id] = str(error)
            else:
                good += 1
                yield sample
        if self.skipped and not self._skip_bad:
            # Where none is good, leaving them out is no way out.
            advice = ". --skip-bad leaves them out" if good else ""
            raise UndecodableImageError(f"{len(self.skipped)} image(s) cannot be used: {self._reasons()}{advice}")

    def _reasons(self) -> str:
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.skipped.items():
            by_reason.setdefault(reason, []).append(name)
        told = [f"{_listed(names)}: {reason}" for reason, names in islice(by_reason.items(), _NAMED_IN_MESSAGE)]
        more = len(by_reason) - len(told)
        return "; ".join(told) + (f"; and {more} more reasons" if more else "")


def check_samples(
    samples: Iterable[Sample], labels: tuple[str, ...], *, skip_bad: bool, images: ImagesConfig = OF_THE_STORE
) -> CheckedSamples:
    """The samples, each checked when it comes; ``images`` says which are taken, by default all that a store may hold.

    Iterating raises DuplicateSampleError on a sample id that comes again and UnknownLabelError on a label outside the
    list, at once; and UndecodableImageError with ids and reasons of bad images, at the end, unless ``skip_bad``.
    """
    return CheckedSamples(samples, labels, skip_bad, images)


class _Drawn:
    """Some rows of a source: those with the lowest hashes of their sample ids."""

    def __init__(self, source: Source, rows: int) -> None:
        self._source = source
        self._rows = rows

    @property
    def labels(self) -> tuple[str, ...]:
        """See Source.labels."""
        return self._source.labels

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples."""
        hashes = (draw_uint64(0, "rows", sample.sample_id) for sample in self._source.samples(labels))
        lowest = heapq.nsmallest(self._rows, hashes)
        for sample in self._source.samples(labels):
            if lowest and draw_uint64(0, "rows", sample.sample_id) <= lowest[-1]:
                yield sample
