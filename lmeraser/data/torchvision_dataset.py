"""Rows from a data set of torchvision that lies on disk already."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from lmeraser.data.labels import LabelPlaces
from lmeraser.data.sample import Sample
from lmeraser.errors import ConfigError, DataError


class TorchvisionSource:
    """A class of ``torchvision.datasets`` over a folder; nothing is downloaded.

    A row is named ``<dataset>-<split>-<place>`` and kept as PNG.
    """

    def __init__(self, dataset: str, path: Path, split: str) -> None:
        """Open the data set.

        Raises:
            ConfigError: when torchvision has no such data set.
            DataError: when the folder does not hold it.
        """
        import torchvision.datasets

        if dataset not in torchvision.datasets.__all__ or not inspect.isclass(getattr(torchvision.datasets, dataset)):
            raise ConfigError(f"dataset {dataset!r} is not in torchvision.datasets; CIFAR10, for one, is")
        kind: Any = getattr(torchvision.datasets, dataset)
        accepted = inspect.signature(kind).parameters
        which: dict[str, Any] = {}
        if "train" in accepted:
            which["train"] = split == "train"
        elif "split" in accepted:
            which["split"] = split
        try:
            self._rows = kind(path, **which)
        except (RuntimeError, OSError, ValueError) as error:
            raise DataError(f"cannot open torchvision's {dataset} in {path}: {error}") from error
        self._name = f"{dataset.lower()}-{split}"
        self.labels = tuple(map(str, getattr(self._rows, "classes", ())))

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples."""
        places = LabelPlaces(labels)
        for row in range(len(self._rows)):
            image, target = self._rows[row]
            sample_id = f"{self._name}-{row}"
            if not isinstance(image, Image.Image) or not isinstance(target, int):
                raise DataError(f"torchvision's {self._name} does not give images with one label each")
            if self.labels:
                label = places.of_name(self.labels[target], sample_id)
            else:
                label = places.of_number(target, sample_id)
            buffer = io.BytesIO()
            image.save(buffer, format="PNG")
            yield Sample(sample_id, None, label, buffer.getvalue())
