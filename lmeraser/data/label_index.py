"""From a row's label to its index in the declared list. Names are compared in Unicode NFC."""

from __future__ import annotations

from collections.abc import Sequence

from lmeraser.errors import UnknownLabelError
from lmeraser.ids import comparable


class LabelIndex:
    """Finds labels in the declared list."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._indices = {comparable(name): index for index, name in enumerate(labels)}

    def of_name(self, name: str, row: str) -> int:
        """The index of a label name; ``row`` names the row in the message.

        Raises:
            UnknownLabelError: when the name is not in the list.
        """
        index = self._indices.get(comparable(name))
        if index is None:
            raise UnknownLabelError(f"{row} has the label {name!r}; declared are {self._declared()} (see `labels:`)")
        return index

    def __contains__(self, name: str) -> bool:
        return comparable(name) in self._indices

    def name(self, index: int) -> str:
        """The declared name of an index."""
        return self._labels[index]

    def of_number(self, number: int, row: str) -> int:
        """The number itself, for data that does not name its labels; ``row`` names the row in the message.

        Raises:
            UnknownLabelError: when the list has no such index.
        """
        if not 0 <= number < len(self._labels):
            raise UnknownLabelError(
                f"{row} has the label {number}; declared are {self._declared()}, "
                f"so 0 to {len(self._labels) - 1} is allowed (see `labels:`)"
            )
        return number

    def _declared(self) -> str:
        shown = ", ".join(repr(name) for name in self._labels[:10])
        return f"{shown}, … ({len(self._labels)} in all)" if len(self._labels) > 10 else shown
