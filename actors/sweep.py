"""The sweep: remove every object that the newest commit does not name."""

from __future__ import annotations

from collections.abc import Callable

from lmeraser.state.commit import Commit
from lmeraser.state.layout import DATA_FOLDERS
from lmeraser.store import Fence, Store


def sweep(store: Store, commit: Commit | None, writing: Callable[[str], bool], fence: Fence) -> None:
    """Remove what no commit names; the store lists to check that it is gone.

    Args:
        store: the store.
        commit: the newest commit; None before the first.
        writing: whether an object of this name is being written now; asked after the objects were listed, so that one
            whose writing began meanwhile is safe.
        fence: raises when another coordinator has taken over, whose objects this one's commit does not name.

    Raises:
        FencedError: when another coordinator has taken over; nothing is removed then.
        StoreError: when something that should be gone is still listed.
    """
    named = commit.objects() if commit is not None else set()

    def unfinished(name: str) -> bool:
        return writing(name) or not name.startswith(DATA_FOLDERS)

    for prefix in DATA_FOLDERS:
        store.purge_below(prefix, lambda name: name in named or unfinished(name), fence)
    # What a commit names is whole: an owner that died had begun it, and another has written it.
    store.purge_partial(unfinished, fence)
