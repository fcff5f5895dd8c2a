"""Rows from Parquet files in the layout of Hugging Face datasets.

Columns: ``image`` (bytes, or a struct with ``bytes``), ``label`` (a whole number, with or without ClassLabel names in
the schema's metadata, or a name), and perhaps ``sample_id`` and ``subject_id`` (text or whole numbers; null and the
empty text are no id).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from lmeraser.data.content_names import ContentNames
from lmeraser.data.labels import LabelPlaces
from lmeraser.data.listing import HIDDEN, is_hidden, reason_of, visible_files
from lmeraser.data.parquet_schema import COLUMNS, check_columns, image_leaf, label_names
from lmeraser.data.sample import Sample, SourceReport
from lmeraser.data.splits import same_split, split_of
from lmeraser.errors import DataError
from lmeraser.hashing import HashKey
from lmeraser.ids import comparable, fault_of_id
from lmeraser.store.filesystem import filesystem

# So few because an image may be large.
_BATCH_ROWS = 16
_BUFFER_BYTES = 1 << 22


class ParquetSource:
    """One Parquet file, or all ``*.parquet`` files below a folder in the order of their paths.

    A row without ``sample_id`` is named by its content.
    """

    def __init__(self, path: str, split: str, name_key: HashKey | None, report: SourceReport) -> None:
        """Read the schema of what lies at a local path, or at ``s3://bucket/path?endpoint=URL``.

        Args:
            path: file or folder.
            split: take the files of this split; all when empty, where their names all tell of the same one or of none.
            name_key: under which rows without ``sample_id`` are named.
            report: is told what is left out.

        Raises:
            DataError: when there is no such file or split, the split must be named, or a column is missing or of a
                type that is not read.
        """
        self._system, self._place = filesystem(path)
        self._name_key = name_key
        self._report = report
        self._files = self._parquet_files(path, split)
        schemas = [self._schema(file) for file in self._files]
        for file, schema in zip(self._files, schemas, strict=True):
            check_columns(schema, file)
        self.labels = tuple(map(comparable, label_names(schemas[0])))

    def samples(self, labels: tuple[str, ...]) -> Iterator[Sample]:
        """See Source.samples."""
        places = LabelPlaces(labels)
        names = ContentNames(self._name_key)
        self._report.unnamed = 0
        for file in self._files:
            class_names = label_names(self._schema(file))
            for row, columns in enumerate(self._rows(file, COLUMNS)):
                where = f"row {row} of {file}"
                sample_id = _id(columns.get("sample_id"), where)
                subject_id = _id(columns.get("subject_id"), where)
                named = where if sample_id is None else f"sample {sample_id!r}"
                label = _place(places, class_names, columns["label"], named)
                image = _encoded(columns["image"])
                if sample_id is None:
                    sample_id = names.name(image, labels[label], subject_id)
                    self._report.unnamed += 1
                yield Sample(sample_id, subject_id, label, image)

    def labels_seen(self, most: int) -> list[str]:
        """The first different values of the column ``label``, for a message."""
        seen = (repr(columns["label"]) for file in self._files for columns in self._rows(file, ("label",)))
        found: dict[str, None] = {}
        for value in seen:
            found[value] = None
            if len(found) == most:
                break
        return list(found)

    def _parquet_files(self, path: str, split: str) -> list[str]:
        try:
            kind = self._system.get_file_info(self._place).type
            listed = [self._place] if kind == fs.FileType.File else sorted(self._below(self._place, kind))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error}") from error
        root = "" if kind == fs.FileType.File else f"{self._place.rstrip('/')}/"
        split_by_file = {
            file: split_of(file.removeprefix(root) if root else file.rpartition("/")[2]) for file in listed
        }
        told = sorted({name for name in split_by_file.values() if name})
        if not listed:
            raise DataError(
                f"{path} holds no .parquet file, nor do its subfolders; there is: {self._report.told() or '-'}"
            )
        if not split:
            if root and len(told) > 1:
                raise DataError(f"{path} holds files of the splits {', '.join(told)}: say which to take with `split:`")
            untold = [file.removeprefix(root) for file, name in split_by_file.items() if not name]
            if root and told and untold:
                raise DataError(
                    f"{path} holds files of the split {told[0]}, and {len(untold)} whose name(s) tell of none, such as "
                    f"{untold[0]}: `split: {told[0]}` takes the former alone; for the others, move them to a folder of "
                    "their own"
                )
            return listed
        chosen = [file for file, name in split_by_file.items() if same_split(name, split)]
        if not chosen:
            raise DataError(
                f"{path} holds no file of the split {split!r}: the names of its files tell "
                + (f"of {', '.join(told)}" if told else "of no split, so leave `split:` out")
            )
        if len(listed) > len(chosen):
            self._report.left_out["of another split"] += len(listed) - len(chosen)
        return chosen

    def _below(self, place: str, kind: fs.FileType) -> Iterator[str]:
        """Parquet files below a folder, but for what is hidden or that Spark has begun with an underscore."""
        if kind == fs.FileType.NotFound:
            patterns = ": patterns are not read, name the folder" if any(sign in place for sign in "*?[") else ""
            raise DataError(f"there is no file or folder {place}{patterns}")
        if isinstance(self._system, fs.LocalFileSystem):
            found = [str(file) for file in visible_files(Path(place), self._report)]
        else:
            infos = self._system.get_file_info(fs.FileSelector(place, recursive=True))
            found = [info.path for info in infos if info.is_file]
        for file in found:
            *folders, name = file.removeprefix(place).strip("/").split("/")
            suffix = name[name.rfind(".") :].lower() if "." in name else ""
            if any(is_hidden(part) or part.startswith("_") for part in (*folders, name)):
                self._report.left_out[HIDDEN] += 1
            elif suffix == ".parquet":
                yield file
            else:
                self._report.left_out[reason_of(suffix)] += 1

    def _rows(self, file: str, wanted: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        # An image that comes again and again is held once, as the file has it.
        repeating = image_leaf(self._schema(file))
        options = {"filesystem": self._system, "buffer_size": _BUFFER_BYTES, "read_dictionary": repeating}
        try:
            # Read piece by piece: by default, all of a row group's images would be held at a time.
            with pq.ParquetFile(file, **options) as opened:
                columns = [name for name in wanted if name in opened.schema_arrow.names]
                # Arrow cannot join the dictionaries of two row groups within a struct, so no batch spans them.
                for group in range(opened.num_row_groups):
                    for batch in opened.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns):
                        for row in range(len(batch)):
                            yield {name: batch.column(name)[row].as_py() for name in columns}
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {file}: {error}") from error

    def _schema(self, file: str) -> pa.Schema:
        try:
            return pq.read_schema(file, filesystem=self._system)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot read {file}: {error}") from error


def _id(value: Any, where: str) -> str | None:
    """An id as text; None where there is none."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise DataError(
                f"{where} has the id {value!r}, which is not UTF-8; write it as text, in hex for one"
            ) from None
    if value is None or value == "":
        return None
    if (fault := fault_of_id(str(value))) is not None:
        raise DataError(f"the id in {where} {fault}")
    return str(value)


def _place(places: LabelPlaces, names: tuple[str, ...], label: Any, row: str) -> int:
    if label is None:
        raise DataError(f"{row} has no label; a number or a name is needed")
    if isinstance(label, str):
        return places.of_name(label, row)
    if 0 <= label < len(names):
        return places.of_name(names[label], row)
    return places.of_number(label, row)


def _encoded(image: Any) -> bytes:
    value = image.get("bytes") if isinstance(image, dict) else image
    # What is not there is reported as undecodable, together with its sample id.
    return value if isinstance(value, bytes) else b""
