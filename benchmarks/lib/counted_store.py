"""A store on a local disk that counts what is read and written, by the folder of the object."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

from lmeraser.store import LocalStore


class CountedStore(LocalStore):
    """Counts objects, bytes and listings. Safe to use from several threads."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}
        self.forget()

    def forget(self) -> None:
        """Count from zero."""
        with self._lock:
            self._counts = {kind: Counter() for kind in ("read", "read_bytes", "written", "written_bytes", "listed")}

    def counts(self) -> dict[str, Any]:
        """What was done since, by folder."""
        with self._lock:
            return {kind: dict(sorted(counts.items())) for kind, counts in self._counts.items()}

    def get(self, name: str) -> bytes:
        data = super().get(name)
        self._count(name, read=1, read_bytes=len(data))
        return data

    def put(self, name: str, data: bytes) -> None:
        super().put(name, data)
        self._count(name, written=1, written_bytes=len(data))

    def put_if_absent(self, name: str, data: bytes) -> None:
        super().put_if_absent(name, data)
        self._count(name, written=1, written_bytes=len(data))

    def names(self, prefix: str = "") -> list[str]:
        names = super().names(prefix)
        self._count(prefix, listed=len(names))
        return names

    def _count(self, name: str, **amounts: int) -> None:
        folder = name.partition("/")[0]
        with self._lock:
            for kind, amount in amounts.items():
                self._counts[kind][folder] += amount
