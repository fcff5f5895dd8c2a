"""Rows from a folder with one subfolder of images for each label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from lmeraser.data.labels import LabelPlaces
from lmeraser.data.sample import Sample
from lmeraser.errors import DataError


class ImageFolderSource:
    """``<path>/<label>/**/<file>``; a row is named after its path below the folder."""

    def __init__(self, path: Path) -> None:
        """List the labels.

        Raises:
            DataError: when the folder does not exist or has no subfolder.
        """
        if not path.is_dir():
            raise DataError(f"{path} is not a folder")
        self._path = path
        self.labels = tuple(sorted(folder.name for folder in path.iterdir() if folder.is_dir()))
        if not self.labels:
            raise DataError(f"{path} has no subfolder; one for each label is needed")

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples."""
        places = LabelPlaces(labels)
        suffixes = set(Image.registered_extensions())
        for file in sorted(self._path.glob("*/**/*")):
            if file.suffix.lower() in suffixes and file.is_file():
                sample_id = file.relative_to(self._path).as_posix()
                label = places.of_name(sample_id.partition("/")[0], sample_id)
                yield Sample(sample_id, None, label, file.read_bytes())
