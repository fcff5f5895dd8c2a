"""Rows from a folder with one subfolder of images for each label."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lmeraser.config import ImagesConfig
from lmeraser.data.image_format import suffixes_of
from lmeraser.data.label_index import LabelIndex
from lmeraser.data.listing import checked_name, entries, is_hidden, reason_of, visible_files
from lmeraser.data.parts import PartedSource, Piece, Unit, pieces_of
from lmeraser.data.sample import Sample, SourceReport
from lmeraser.data.splits import is_split
from lmeraser.errors import DataError
from lmeraser.ids import comparable, fault_of_id


class ImageFolderSource(PartedSource[tuple[Path, ...]]):
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
        super().__init__(report)
        self._path = path
        self._max_bytes = images.max_bytes
        self._suffixes = suffixes_of(images)
        folders = [entry.name for entry in entries(path) if entry.is_dir() and not is_hidden(entry.name)]
        self._folders = tuple(sorted({comparable(checked_name(name, path)) for name in folders}))
        if not self._folders:
            raise DataError(f"{path} has no subfolder; one for each label is needed")

    @property
    def labels(self) -> tuple[str, ...]:  # type: ignore[override] # read-only
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

    def _pieces(self) -> Sequence[Piece[tuple[Path, ...]]]:
        self._report.clear()
        files = sorted(filter(self._is_row, visible_files(self._path, self._report)))
        units = ((str(self._path), Unit(file, 1, file.stat().st_size)) for file in files)
        return [self._with_names(piece) for piece in pieces_of(units)]

    def _with_names(self, piece: Piece[tuple[Path, ...]]) -> Piece[tuple[Path, ...]]:
        """The piece at a place that is another one when files come or go: names are ids, so their digest says which."""
        digest = hashlib.sha256("\0".join(map(self._sample_id, piece.content)).encode()).hexdigest()
        return Piece(replace(piece.part, place=f"{piece.part.place} ({digest[:16]})"), piece.content)

    def _ids(self, content: tuple[Path, ...], labels: tuple[str, ...]) -> Iterator[str]:  # noqa: ARG002
        return map(self._sample_id, content)

    def _read(self, content: tuple[Path, ...], labels: tuple[str, ...]) -> Iterator[Sample]:
        label_index = LabelIndex(labels)
        for file in content:
            sample_id = self._sample_id(file)
            label = label_index.of_name(sample_id.partition("/")[0], f"sample {sample_id!r}")
            yield Sample(sample_id, None, label, self._content(file))

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
