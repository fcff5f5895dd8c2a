"""How writers stay out of each other's way: the check before a removal, and the one that a log depends on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lmeraser.errors import LostRaceError, StoreError

if TYPE_CHECKING:
    from lmeraser.store import Store

# Called after the objects to remove were listed and before any of them is removed. If it raises, nothing is removed.
Fence = Callable[[], None]


def unfenced() -> None:
    """The fence of a removal that needs none: of the caller's own objects, which nobody else names."""


def check_put_if_absent(store: Store, name: str, reason: str) -> None:
    """Check that an existing object cannot be written a second time with put_if_absent, and can be read.

    Args:
        store: the store.
        name: of the existing object.
        reason: why a second write can succeed there, for the message.

    Raises:
        StoreError: when the second write succeeds, or the store fails.
    """
    try:
        store.put_if_absent(name, b"second")
    except LostRaceError:
        pass
    else:
        raise StoreError(f"{store.uri} is on storage where {reason}: its log could not be fenced")
    store.get(name)
