"""Rows from a torchvision data set that is already on disk."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from lmeraser.data.content_names import content_name
from lmeraser.data.label_index import LabelIndex
from lmeraser.data.parts import PartedSource, Piece, ranges_of
from lmeraser.data.sample import Sample, SourceReport
from lmeraser.errors import ConfigError, DataError
from lmeraser.hashing import HashKey
from lmeraser.ids import comparable

_TRAIN_OR_TEST = ("train", "test")


class TorchvisionSource(PartedSource[range]):
    """A class of ``torchvision.datasets`` over a folder; nothing is downloaded.

    A row is named by its pixels and stored as PNG.
    """

    def __init__(self, dataset: str, path: Path, split: str, name_key: HashKey | None, report: SourceReport) -> None:
        """Open the data set.

        Args:
            dataset: name of the class.
            path: its folder.
            split: the split to read; empty for train, or for the default of the class.
            name_key: hash key that rows are named with.
            report: counts the rows that are named.

        Raises:
            ConfigError: when torchvision has no such data set, the class needs more than a folder and a split, or does
                not have this split.
            DataError: when the data set is not in the folder.
        """
        super().__init__(report)
        import torchvision.datasets

        if dataset not in torchvision.datasets.__all__ or not inspect.isclass(getattr(torchvision.datasets, dataset)):
            raise ConfigError(f"dataset {dataset!r} is not in torchvision.datasets; CIFAR10, for example, is")
        kind: Any = getattr(torchvision.datasets, dataset)
        arguments = _split_argument(dataset, inspect.signature(kind).parameters, split)
        try:
            self._rows = kind(path, **arguments)
        except Exception as error:  # These classes raise whatever their parsers raise.
            raise DataError(f"cannot open torchvision's {dataset} in {path}: {error}") from error
        self._name = dataset
        self._size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        self._name_key = name_key
        self.labels = tuple(comparable(str(name)) for name in getattr(self._rows, "classes", ()))

    def _pieces(self) -> Sequence[Piece[range]]:
        rows = len(self._rows)
        return ranges_of(f"torchvision's {self._name}", rows, self._size // max(rows, 1))

    def _read(self, content: range, labels: tuple[str, ...]) -> Iterator[Sample]:
        for sample_id, label, image in self._named_images(content, labels):
            self._report.unnamed += 1
            buffer = io.BytesIO()
            image.save(buffer, format="PNG")
            yield Sample(sample_id, None, label, buffer.getvalue())

    def _ids(self, content: range, labels: tuple[str, ...]) -> Iterator[str]:
        return (sample_id for sample_id, _, _ in self._named_images(content, labels))

    def _named_images(self, rows: range, labels: tuple[str, ...]) -> Iterator[tuple[str, int, Image.Image]]:
        """Sample id, label and image of these rows."""
        label_index = LabelIndex(labels)
        for row in rows:
            where = f"row {row} of torchvision's {self._name}"
            try:
                image, target = self._rows[row]
            except Exception as error:
                raise DataError(f"cannot read {where}: {error}") from error
            if not isinstance(image, Image.Image) or not isinstance(target, int):
                raise DataError(f"torchvision's {self._name} does not give images with one label each")
            of_name = label_index.of_name
            label = of_name(self.labels[target], where) if self.labels else label_index.of_number(target, where)
            # By the pixels: the bytes of a PNG depend on the library that wrote it.
            content = f"{image.mode} {image.width} {image.height} ".encode() + image.tobytes()
            yield content_name(self._name_key, content, label_index.name(label), None), label, image


def _split_argument(dataset: str, parameters: Any, split: str) -> dict[str, Any]:
    """The argument that selects the split; empty for the default of the class."""
    names = list(parameters)
    needed = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in ("root", "train", "split")
    ]
    if names[:1] != ["root"] or needed:
        reason = f"needs {', '.join(needed)}" if needed else "does not read a folder"
        raise ConfigError(
            f"torchvision's {dataset} {reason}, so a source of kind torchvision cannot use it: it takes classes that "
            "read one folder and give one label per image, such as CIFAR10, MNIST, SVHN, GTSRB or Food101"
        )
    if "train" in names:
        if split not in ("", *_TRAIN_OR_TEST):
            raise ConfigError(f"split is {split!r}; torchvision's {dataset} has train and test")
        return {"train": split != "test"}
    if "split" in names:
        if not split and parameters["split"].default is inspect.Parameter.empty:
            raise ConfigError(f"torchvision's {dataset} needs `split:`; see its documentation for the names")
        return {"split": split} if split else {}
    if split:
        raise ConfigError(f"split is {split!r}, and torchvision's {dataset} has none: leave it out")
    return {}
