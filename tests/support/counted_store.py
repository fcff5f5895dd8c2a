"""A store on disk that counts what is read."""

from __future__ import annotations

from pathlib import Path

from lmeraser.store import LocalStore


class CountedStore(LocalStore):
    """Keeps the names of the objects that are read, in order."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: list[str] = []

    def get(self, name: str) -> bytes:
        self.read.append(name)
        return super().get(name)
