"""How writers keep out of each other's way: what a removal asks right before it happens, and what a log needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lmeraser.errors import LostRaceError, StoreError

if TYPE_CHECKING:
    from lmeraser.store import Store

# Called after what is to go was listed, and before any of it goes. What it raises leaves everything in place.
Fence = Callable[[], None]


def unfenced() -> None:
    """The fence of a removal that needs none: of the caller's own objects, which nobody else ever names."""


def check_put_if_absent(store: Store, name: str, reason: str) -> None:
    """Check that an object which is there is put by nobody a second time, and can be read.

    Args:
        store: the store.
        name: of the object.
        reason: why a second put can succeed there, for the message.

    Raises:
        StoreError: when the second put succeeds, or the store fails.
    """
    try:
        store.put_if_absent(name, b"second")
    except LostRaceError:
        pass
    else:
        raise StoreError(f"{store.uri} lies where {reason}: its log could not be fenced")
    store.get(name)
