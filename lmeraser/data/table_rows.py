"""From the values of a table's row to a sample: ids, labels and images in the forms in which people write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmeraser.data.content_names import content_name
from lmeraser.data.label_index import LabelIndex
from lmeraser.data.sample import Sample, SourceReport
from lmeraser.errors import DataError
from lmeraser.hashing import HashKey
from lmeraser.ids import fault_of_id


@dataclass(frozen=True)
class TableRows:
    """How the rows of a source are read.

    Attributes:
        name_key: hash key that rows without a sample id are named with.
        report: counts those.
        labels_are_text: whether a number is written as text, so that "3" is the name 3 if there is one, or else a
            number.
    """

    name_key: HashKey | None
    report: SourceReport
    labels_are_text: bool = False

    def sample(
        self,
        values: Mapping[str, Any],
        where: str,
        label_index: LabelIndex,
        class_names: tuple[str, ...] = (),
        default_id: str | None = None,
    ) -> Sample:
        """One row.

        Args:
            values: the image's bytes and the label, and sample and subject id where there are any.
            where: where the row is, for messages.
            label_index: finds labels in the declared list.
            class_names: what the data calls labels that are numbers; empty where it does not.
            default_id: for a row without a sample id; when None, such a row is named by its content.

        Raises:
            UnknownLabelError, DataError: see Source.read.
        """
        sample_id = read_id(values.get("sample_id"), where) or default_id
        subject_id = read_id(values.get("subject_id"), where)
        described = where if sample_id is None else f"sample {sample_id!r}"
        label = self._label(label_index, class_names, values.get("label"), described)
        image = values.get("image")
        # A missing image is reported as undecodable, together with its sample id.
        content = image if isinstance(image, bytes) else b""
        if sample_id is None:
            self.report.unnamed += 1
            sample_id = content_name(self.name_key, content, label_index.name(label), subject_id)
        return Sample(sample_id, subject_id, label, content)

    def _label(self, label_index: LabelIndex, class_names: tuple[str, ...], label: Any, row: str) -> int:
        if label is None:
            raise DataError(f"{row} has no label; a number or a name is needed")
        if isinstance(label, str):
            is_number = self.labels_are_text and label.isascii() and label.isdigit() and label not in label_index
            return label_index.of_number(int(label), row) if is_number else label_index.of_name(label, row)
        if 0 <= label < len(class_names):
            return label_index.of_name(class_names[label], row)
        return label_index.of_number(label, row)


def read_id(value: Any, where: str) -> str | None:
    """An id as text; None where there is none.

    Raises:
        DataError: when it is not valid, naming ``where``.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise DataError(
                f"{where} has the id {value!r}, which is not UTF-8; write it as text, for example in hex"
            ) from None
    if value is None or value == "":
        return None
    if (fault := fault_of_id(str(value))) is not None:
        raise DataError(f"the id in {where} {fault}")
    return str(value)
