"""Rows from a data set of torchvision that lies on disk already."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from lmeraser.data.content_names import ContentNames
from lmeraser.data.labels import LabelPlaces
from lmeraser.data.sample import Sample, SourceReport
from lmeraser.errors import ConfigError, DataError
from lmeraser.hashing import HashKey
from lmeraser.ids import comparable

_TRAIN_OR_TEST = ("train", "test")


class TorchvisionSource:
    """A class of ``torchvision.datasets`` over a folder; nothing is downloaded.

    A row is named by its pixels, and kept as PNG.
    """

    def __init__(self, dataset: str, path: Path, split: str, name_key: HashKey | None, report: SourceReport) -> None:
        """Open the data set.

        Args:
            dataset: name of the class.
            path: its folder.
            split: the one to take; empty for train, or the one that the class takes by itself.
            name_key: under which rows are named.
            report: is told that they are.

        Raises:
            ConfigError: when torchvision has no such data set, it takes more than a folder and a split, or not this
                split.
            DataError: when the folder does not hold it.
        """
        import torchvision.datasets

        if dataset not in torchvision.datasets.__all__ or not inspect.isclass(getattr(torchvision.datasets, dataset)):
            raise ConfigError(f"dataset {dataset!r} is not in torchvision.datasets; CIFAR10, for one, is")
        kind: Any = getattr(torchvision.datasets, dataset)
        which = _split_argument(dataset, inspect.signature(kind).parameters, split)
        try:
            self._rows = kind(path, **which)
        except Exception as error:  # Its classes raise what their parsers do.
            raise DataError(f"cannot open torchvision's {dataset} in {path}: {error}") from error
        self._name = dataset
        self._name_key = name_key
        self._report = report
        self.labels = tuple(comparable(str(name)) for name in getattr(self._rows, "classes", ()))

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples."""
        places = LabelPlaces(labels)
        names = ContentNames(self._name_key)
        self._report.unnamed = 0
        for row in range(len(self._rows)):
            where = f"row {row} of torchvision's {self._name}"
            try:
                image, target = self._rows[row]
            except Exception as error:
                raise DataError(f"cannot read {where}: {error}") from error
            if not isinstance(image, Image.Image) or not isinstance(target, int):
                raise DataError(f"torchvision's {self._name} does not give images with one label each")
            label = places.of_name(self.labels[target], where) if self.labels else places.of_number(target, where)
            # Of the pixels: the bytes of a PNG hang on the library that wrote it.
            content = f"{image.mode} {image.width} {image.height} ".encode() + image.tobytes()
            self._report.unnamed += 1
            buffer = io.BytesIO()
            image.save(buffer, format="PNG")
            yield Sample(names.name(content, labels[label], None), None, label, buffer.getvalue())


def _split_argument(dataset: str, parameters: Any, split: str) -> dict[str, Any]:
    """How a class is told the split; nothing where it is to take its own."""
    names = list(parameters)
    needed = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in ("root", "train", "split")
    ]
    if names[:1] != ["root"] or needed:
        what = f"needs {', '.join(needed)}" if needed else "does not lie in a folder"
        raise ConfigError(
            f"torchvision's {dataset} {what}, which a source of kind torchvision cannot give: it takes classes of one "
            "folder with one label an image, such as CIFAR10, MNIST, SVHN, GTSRB or Food101"
        )
    if "train" in names:
        if split not in ("", *_TRAIN_OR_TEST):
            raise ConfigError(f"split is {split!r}; torchvision's {dataset} has train and test")
        return {"train": split != "test"}
    if "split" in names:
        if not split and parameters["split"].default is inspect.Parameter.empty:
            raise ConfigError(f"torchvision's {dataset} needs `split:`; its documentation names them")
        return {"split": split} if split else {}
    if split:
        raise ConfigError(f"split is {split!r}, and torchvision's {dataset} has none: leave it out")
    return {}
