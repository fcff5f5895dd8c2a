"""A run: a method with its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Run:
    """A method with its options.

    Attributes:
        method: a key of ``METHODS``.
        options: what differs from the setting's configuration, and what the method itself asks for.
    """

    method: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Method and options in one word."""
        return "-".join([self.method, *(f"{key}_{value}" for key, value in self.options)])

    def __getitem__(self, key: str) -> Any:
        return dict(self.options)[key]

    def get(self, key: str, default: Any) -> Any:
        """An option, or the default."""
        return dict(self.options).get(key, default)
