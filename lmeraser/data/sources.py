"""From a source's configuration to its rows."""

from __future__ import annotations

from dataclasses import replace

from lmeraser.config import ImagesConfig, SourceConfig
from lmeraser.data.hugging_face import HuggingFaceSource
from lmeraser.data.image_folder import ImageFolderSource
from lmeraser.data.manifest import ManifestSource
from lmeraser.data.parquet import ParquetSource
from lmeraser.data.sample import Source, SourceReport
from lmeraser.data.subset import SubsetSource
from lmeraser.data.torchvision_dataset import TorchvisionSource
from lmeraser.data.webdataset import WebDatasetSource
from lmeraser.errors import ConfigError, DataError
from lmeraser.extras import needs_extra
from lmeraser.hashing import HashKey
from lmeraser.store.location import SCHEME, local_path

_LABELS_IN_MESSAGE = 10


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
        images: which images are accepted; of an image folder, files with the suffixes of these formats are read.
        name_key: the store's hash key, with which rows without a sample id are named; without it the names are the
            same in every store, so that anyone who has an image can find out that it is in the store.
        report: filled at every reading.

    Raises:
        DataError: when it cannot be read.
        ConfigError: when torchvision has no such data set, or its kind cannot be read from S3.
        MissingExtraError: for bundled rows without the extra ``demo``.
    """
    source: Source
    in_bucket = config.path.startswith(SCHEME)
    if in_bucket and config.kind not in ("parquet", "webdataset", "huggingface", "manifest"):
        raise ConfigError(
            f"a {config.kind} source has the path {config.path!r}; only parquet, webdataset, huggingface and manifest "
            "are read from S3"
        )
    path = local_path(config.path)
    location = config.path if in_bucket else str(path)
    report, images = report or SourceReport(), images or ImagesConfig()
    match config.kind:
        case "parquet":
            source = ParquetSource(location, config.split, config.columns, name_key, report)
        case "webdataset":
            source = WebDatasetSource(location, config.split, config.columns, images, report)
        case "huggingface":
            source = HuggingFaceSource(location, config.split, config.columns, name_key, report)
        case "manifest":
            source = ManifestSource(location, config.columns, images, report)
        case "image_folder":
            source = ImageFolderSource(path, images, report)
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
        case "coloured_digits":
            with needs_extra("demo"):
                from lmeraser.data.demo.coloured import ColouredDigitsSource

            source = ColouredDigitsSource(config.split or "train")
        case "coloured_glyphs":
            with needs_extra("demo"):
                from lmeraser.data.demo.coloured import ColouredGlyphsSource

            source = ColouredGlyphsSource()
    return source if config.max_rows is None else SubsetSource(source, config.max_rows)


def open_public(config: SourceConfig, images: ImagesConfig | None = None, report: SourceReport | None = None) -> Source:
    """The source of the public rows, whose data must declare the labels; see :func:`open_source`.

    Raises:
        DataError: when it cannot be read, or declares no label names.
        ConfigError: when torchvision has no such data set.
    """
    source = open_source(config, images=images, report=report)
    if not source.labels:
        raise DataError(
            f"{config.path} declares no label names, which public rows need: Parquet and Hugging Face's data sets have "
            "them as ClassLabel, an image folder as the names of its subfolders"
        )
    return source


def located(config: SourceConfig) -> SourceConfig:
    """The same source with an absolute path: processes elsewhere have other working folders."""
    if not config.path or config.path.startswith(SCHEME):
        return config
    return replace(config, path=str(local_path(config.path)))


def declared_labels(config: SourceConfig) -> tuple[str, ...]:
    """The label names that a source declares, for a configuration that lists none.

    Raises:
        DataError: when it declares none; the message shows labels of its rows.
        ConfigError: see open_source.
    """
    source = open_source(replace(config, max_rows=None))
    if not source.labels:
        labels = source.label_values(_LABELS_IN_MESSAGE)
        shown = f"; its column {config.columns.label} holds {', '.join(map(repr, labels))}" if labels else ""
        raise DataError(
            f"the rows in {config.path} declare no label names: list them under `labels:` in the configuration, in the "
            f"order of their numbers where the rows have numbers{shown}"
        )
    return source.labels
