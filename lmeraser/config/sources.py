"""Where rows come from."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from lmeraser.config.validation import STRICT

_FILES = ("parquet", "webdataset", "huggingface", "manifest")
_KINDS_WITH = {
    "path": (*_FILES, "image_folder", "torchvision"),
    "dataset": ("torchvision",),
    "split": ("parquet", "webdataset", "huggingface", "torchvision", "digits", "coloured_digits"),
    "columns": _FILES,
}
_DIGITS = ("digits", "coloured_digits")


@dataclass(frozen=True, config=STRICT)
class ColumnsConfig:
    """What the columns of a source are called; in "webdataset", members of a sample or keys of its ``.json``.

    Attributes:
        image: holds the images.
        label: holds the labels.
        sample_id: holds the rows' ids; when empty, ``sample_id`` does, if there is such a column.
        subject_id: holds the ids of the persons that rows are about; when empty, ``subject_id`` does, if there is such
            a column.
    """

    image: str = Field(default="image", min_length=1)
    label: str = Field(default="label", min_length=1)
    sample_id: str = ""
    subject_id: str = ""


@dataclass(frozen=True, config=STRICT)
class SourceConfig:
    """Where rows come from.

    Attributes:
        kind: "parquet" (Hugging Face layout), "webdataset" (tar shards), "huggingface" (a folder that ``save_to_disk``
            has written), "manifest" (CSV, TSV or JSON Lines that name image files), "image_folder", "torchvision", and
            the bundled "digits" and "glyphs", which there are in colours too (:mod:`lmeraser.data.demo.coloured`).
        path: file or folder; for "torchvision" the folder that holds the data set; for the first four kinds also
            ``s3://bucket/path``.
        dataset: class in ``torchvision.datasets``; only for "torchvision".
        split: "train" or "test" for bundled digits and most of "torchvision"; for "parquet" and "webdataset", only
            files of this split are read, which is part of their names, as on the Hugging Face Hub; for "huggingface",
            the split of a ``DatasetDict``.
        max_rows: read this many rows, chosen by a hash of the sample id; all when absent.
        columns: what the columns are called; only for the first four kinds.
    """

    kind: Literal[
        "parquet",
        "webdataset",
        "huggingface",
        "manifest",
        "image_folder",
        "torchvision",
        "digits",
        "glyphs",
        "coloured_digits",
        "coloured_glyphs",
    ]
    path: str = ""
    dataset: str = ""
    split: str = ""
    max_rows: int | None = Field(default=None, ge=1)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        if self.kind in _KINDS_WITH["path"] and not self.path:
            raise ValueError(f"a source of kind {self.kind} needs path")
        if self.kind == "torchvision" and not self.dataset:
            raise ValueError("a source of kind torchvision needs dataset, a class of torchvision.datasets")
        for name, kinds in _KINDS_WITH.items():
            value = getattr(self, name)
            if value not in ("", ColumnsConfig()) and self.kind not in kinds:
                given = "given" if isinstance(value, ColumnsConfig) else repr(value)
                raise ValueError(f"{name} is {given}, but a source of kind {self.kind} has no {name}")
        if self.kind in _DIGITS and self.split not in ("", "train", "test"):
            raise ValueError(f"split is {self.split!r}; {self.kind} have train and test")
        return self

    @model_validator(mode="after")
    def _path_is_of_a_kind_that_is_read(self) -> Self:
        scheme, separator, rest = self.path.partition("://")
        if separator and scheme not in ("file", "s3"):
            other = f": write s3://{rest}" if scheme in ("s3a", "s3n") else ": download it, and name the folder"
            allowed = f"local paths and file://, and s3:// for kinds {', '.join(_FILES)}"
            raise ValueError(f"path is {self.path!r}; allowed are {allowed}{other}")
        return self
