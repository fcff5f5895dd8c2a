"""Rows from a folder with one subfolder of images for each label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from lmeraser.config import ImagesConfig
from lmeraser.data.label_index import LabelIndex
from lmeraser.data.listing import checked_name, entries, is_hidden, reason_of, visible_files
from lmeraser.data.sample import Sample, ShardedSource, SourceReport
from lmeraser.data.splits import is_split
from lmeraser.errors import DataError
from lmeraser.ids import comparable, fault_of_id


class ImageFolderSource(ShardedSource):
    """``<path>/<label>/**/<file>``; the sample id of a row is its path below the folder.

    Links to folders and files are followed. Files are chosen by their suffix; hidden ones are left out.
    """

    def __init__(self, path: Path, images: ImagesConfig, report: SourceReport) -> None:
        """List the labels.

        Args:
            path: the folder.
            images: files with the suffixes of its formats are read.
            report: counts what is left out.

        Raises:
            DataError: when the folder does not exist, has no subfolder, or has one whose name is not text.
        """
        if not path.is_dir():
            raise DataError(f"{path} is not a folder")
        self._path = path
        self._report = report
        self._max_bytes = images.max_bytes
        Image.init()
        self._suffixes = {suffix for suffix, kind in Image.EXTENSION.items() if kind in images.formats}
        folders = [entry.name for entry in entries(path) if entry.is_dir() and not is_hidden(entry.name)]
        self._folders = tuple(sorted({comparable(checked_name(name, path)) for name in folders}))
        if not self._folders:
            raise DataError(f"{path} has no subfolder; one for each label is needed")

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the top folders.

        Raises:
            DataError: when all of them look like names of splits.
        """
        if all(map(is_split, self._folders)):
            raise DataError(
                f"the folders in {self._path} are called {', '.join(self._folders)}, as splits are, and the top "
                "folders of an image folder become its labels permanently: set `path:` to the folder of one split, "
                f"such as {self._path / self._folders[0]}. If these really are the labels of the private rows, "
                "list them under `labels:`"
            )
        return self._folders

    def count(self) -> int:
        """See Source.count."""
        return len(self._files())

    def sample_ids(self, labels: tuple[str, ...]) -> Iterator[str]:  # noqa: ARG002 - other sources make ids of them
        """See Source.sample_ids."""
        return map(self._sample_id, self._files())

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples."""
        label_index = LabelIndex(labels)
        for file in self._files():
            sample_id = self._sample_id(file)
            label = label_index.of_name(sample_id.partition("/")[0], f"sample {sample_id!r}")
            yield Sample(sample_id, None, label, self._content(file))

    def _files(self) -> list[Path]:
        """The files of the rows, in order; everything else is counted in the report."""
        self._report.clear()
        files = sorted(filter(self._is_row, visible_files(self._path, self._report)))
        rows = self._shard.rows(len(files))
        return files[rows.start : rows.stop]

    def _sample_id(self, file: Path) -> str:
        sample_id = file.relative_to(self._path).as_posix()
        if (fault := fault_of_id(sample_id)) is not None:
            raise DataError(f"the id of a row, which is the path of its file below {self._path}, {fault}")
        return sample_id

    def _is_row(self, file: Path) -> bool:
        suffix = file.suffix.lower()
        if file.parent != self._path and suffix in self._suffixes:
            return True
        reason = "next to the label folders" if file.parent == self._path else reason_of(suffix)
        self._report.left_out[reason] += 1
        return False

    def _content(self, file: Path) -> bytes:
        try:
            with file.open("rb") as opened:
                # One byte above the limit is enough for the image to be refused.
                return opened.read(self._max_bytes + 1)
        except OSError as error:
            raise DataError(f"cannot read {file}: {error.strerror}") from error
