"""The sweep: remove every object that the newest commit does not name."""

from __future__ import annotations

from collections.abc import Callable

from lmeraser.state.commit import Commit
from lmeraser.state.layout import DATA_FOLDERS
from lmeraser.store import Fence, Store


def sweep(store: Store, commit: Commit | None, writing: Callable[[str], bool], fence: Fence) -> None:
    """Remove what the commit does not name, and check by listing that it is removed.

    Args:
        store: the store.
        commit: the newest commit; None before the first.
        writing: whether an object of this name is being written now; called after the listing, so that an object whose
            writing has begun in the meantime is safe.
        fence: raises once another coordinator, whose objects this commit does not name, has taken over (decision 41).

    Raises:
        FencedError: when another coordinator has taken over; nothing is removed then.
        StoreError: when something that was removed is still listed.
    """
    named = commit.objects() if commit is not None else set()

    def unfinished(name: str) -> bool:
        return writing(name) or not name.startswith(DATA_FOLDERS)

    for prefix in DATA_FOLDERS:
        store.purge_below(prefix, lambda name: name in named or unfinished(name), fence)
    # Objects that a commit names are complete: of those, partial writes are leftovers of an owner that died.
    store.purge_partial(unfinished, fence)
