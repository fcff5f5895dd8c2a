"""Machine unlearning as a running service. ``from lmeraser import Client`` is what a caller of the service needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmeraser.client.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    # Actors import this package for its other modules, and have no use for HTTP.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lmeraser.client import client

    return getattr(client, name)
