"""The sweep: remove every object that the newest commit does not name."""

from __future__ import annotations

from collections.abc import Collection

from lmeraser.commit import DATA_FOLDERS, Commit
from lmeraser.store import Store


def sweep(store: Store, commit: Commit | None, writing: Collection[str]) -> None:
    """Remove what no commit names; the store lists to check that it is gone.

    Args:
        store: the store.
        commit: the newest commit; None before the first.
        writing: names, or prefixes that end in "/", of objects that are being written now.

    Raises:
        StoreError: when something that should be gone is still listed.
    """
    named = commit.objects() if commit is not None else set()
    prefixes = tuple(name for name in writing if name.endswith("/"))
    kept = named | set(writing)

    def keep(name: str) -> bool:
        return name in kept or name.startswith(prefixes) or not name.startswith(DATA_FOLDERS)

    for prefix in DATA_FOLDERS:
        store.purge_below(prefix, keep)
    store.purge_partial(keep)
