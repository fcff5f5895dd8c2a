"""From a row's label to its place in the declared list. Names are compared in Unicode NFC."""

from __future__ import annotations

from collections.abc import Sequence

from lmeraser.errors import UnknownLabelError
from lmeraser.ids import comparable


class LabelPlaces:
    """Finds labels in the declared list."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = labels
        self._places = {comparable(name): place for place, name in enumerate(labels)}

    def of_name(self, name: str, row: str) -> int:
        """The place of a label name; ``row`` is for the message.

        Raises:
            UnknownLabelError: when the list does not have it.
        """
        place = self._places.get(comparable(name))
        if place is None:
            raise UnknownLabelError(f"{row} has the label {name!r}; declared are {self._declared()} (see `labels:`)")
        return place

    def of_number(self, number: int, row: str) -> int:
        """The number itself, where data names no labels; ``row`` is for the message.

        Raises:
            UnknownLabelError: when it is outside the list.
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
