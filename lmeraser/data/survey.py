"""What a folder of images, or of files with rows, holds, for a first configuration."""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from lmeraser.config import ColumnsConfig, SourceConfig
from lmeraser.data.column_guess import guess_columns
from lmeraser.data.hugging_face import STATE
from lmeraser.data.listing import entries, is_hidden, visible_files
from lmeraser.data.manifest import MANIFEST_SUFFIXES
from lmeraser.data.sample import Sample, Source, SourceReport
from lmeraser.data.sources import open_source
from lmeraser.data.splits import same_split, split_of
from lmeraser.errors import DataError

# Images that are looked at for their size, and for subjects.
_SAMPLED = 100
_MAX_LABELS = 10_000


@dataclass(frozen=True)
class Survey:
    """What was found.

    Attributes:
        private, test, public: where the rows are; test and public are None where the folder has none.
        rows: private rows.
        labels: their labels.
        declared: whether the data itself names the labels, so that a configuration need not list them.
        side_px: median of the longer sides of the first images, in pixels.
        subjects: whether the first rows name subjects.
        left_out: files that are not rows, by reason; empty where there are none.
    """

    private: SourceConfig
    test: SourceConfig | None
    public: SourceConfig | None
    rows: int
    labels: tuple[str, ...]
    declared: bool
    side_px: int
    subjects: bool
    left_out: str


def survey(folder: Path) -> Survey:
    """Look at label folders of images, files of rows, or what ``save_to_disk`` has written, whole or in parts.

    Parts are subfolders or splits: ``private`` or ``train`` holds the private rows, ``test`` or ``validation`` the test
    rows, ``public`` the public rows.

    Raises:
        DataError: when it does not exist, or holds no rows that can be read.
    """
    if not folder.exists():
        raise DataError(f"there is no folder {folder}")
    parts = _parts(folder) if folder.is_dir() else {}
    private, test = _split_in_two(parts.get("private") or parts.get("train") or folder)
    for name in ("test", "validation"):
        if test is None and name in parts:
            test = _split_in_two(parts[name])[0]
    public = _split_in_two(parts["public"])[0] if "public" in parts else None
    report = SourceReport()
    source = open_source(private, report=report)
    labels = source.labels or _labels_of_rows(source)
    first = list(islice(source.samples(labels), _SAMPLED))
    if not first:
        raise DataError(f"{private.path} holds no rows; it holds: {report.summary() or 'nothing'}")
    return Survey(
        private,
        test,
        public,
        rows=source.count(),
        labels=labels,
        declared=bool(source.labels),
        side_px=round(statistics.median(_sides(first))),
        subjects=any(sample.subject_id is not None for sample in first),
        left_out=report.summary(),
    )


def with_public(found: Survey, folder: Path) -> Survey:
    """The same, with the public rows of another folder.

    Raises:
        DataError: when it does not exist, or does not name a training split.
    """
    if not folder.exists():
        raise DataError(f"there is no folder {folder}")
    return replace(found, public=_split_in_two(folder)[0])


def _parts(folder: Path) -> dict[str, Path]:
    """Subfolders that hold a part of the rows, by the part; none if one of the subfolders is something else."""
    names = sorted(entry.name for entry in entries(folder) if entry.is_dir() and not is_hidden(entry.name))
    parts: dict[str, Path] = {}
    for name in names:
        part = name.lower() if name.lower() in ("public", "private") else split_of(f"{name}/x")
        if not part:
            return {}
        parts.setdefault(part, folder / name)
    return parts


def _files(path: Path) -> Iterator[Path]:
    return visible_files(path, SourceReport()) if path.is_dir() else iter([path])


def _source_at(path: Path) -> SourceConfig:
    """The source that files of a path are: of the kind of the first file, but for images in label folders."""
    if (path / STATE).is_file():
        first = min(path.glob("*.arrow"), default=None)
        columns = guess_columns(first) if first is not None else ColumnsConfig()
        return SourceConfig("huggingface", str(path), columns=columns)
    if path.is_file() and path.suffix.lower() in MANIFEST_SUFFIXES:
        return SourceConfig("manifest", str(path))
    by_suffix: dict[str, Path] = {}
    for file in sorted(_files(path)):
        by_suffix.setdefault(file.suffix.lower(), file)
    if ".parquet" in by_suffix:
        return SourceConfig("parquet", str(path), columns=guess_columns(by_suffix[".parquet"]))
    return SourceConfig("webdataset" if ".tar" in by_suffix else "image_folder", str(path))


def _split_in_two(path: Path) -> tuple[SourceConfig, SourceConfig | None]:
    """The rows at a path, and the test rows where names of files name splits."""
    source = _source_at(path)
    suffix = {"parquet": ".parquet", "webdataset": ".tar"}.get(source.kind)
    if suffix is None:
        return source, None
    root = path if path.is_dir() else path.parent
    files = (file for file in _files(path) if file.suffix.lower() == suffix)
    splits = {split_of(str(file.relative_to(root))) for file in files} - {""}
    if len(splits) < 2:
        return source, None
    chosen: list[SourceConfig | None] = []
    for names in (("train",), ("test", "validation")):
        split = next((split for name in names for split in splits if same_split(split, name)), "")
        chosen.append(replace(source, split=split) if split else None)
    private, test = chosen
    if private is None:
        raise DataError(f"{path} holds files of the splits {', '.join(sorted(splits))}, and none is called train")
    return private, test


def _labels_of_rows(source: Source) -> tuple[str, ...]:
    """The labels of rows whose data names none: their names in order, or as many names as there are numbers."""
    values = source.label_values(_MAX_LABELS)
    numbers = [value for value in values if isinstance(value, int)]
    if numbers:
        return tuple(map(str, range(max(numbers) + 1)))
    return tuple(sorted(value for value in values if isinstance(value, str)))


def _sides(samples: list[Sample]) -> Iterator[int]:
    """The longer sides of the images that can be read; that of one image at least is given."""
    sides = []
    for sample in samples:
        try:
            with Image.open(io.BytesIO(sample.image)) as image:
                sides.append(max(image.size))
        except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
            continue
    if not sides:
        raise DataError(f"none of the first {len(samples)} images can be read, such as {samples[0].sample_id!r}")
    return iter(sides)
