"""What a removal asks right before it happens: is it still this process that may remove?"""

from __future__ import annotations

from collections.abc import Callable

# Called after what is to go was listed, and before any of it goes. What it raises leaves everything in place.
Fence = Callable[[], None]


def unfenced() -> None:
    """The fence of a removal that needs none: of the caller's own objects, which nobody else ever names."""
