"""The sweep: remove every object that the newest commit does not name, and end owners of clusters that are no more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future

from actors.committer import ApplyResult, Committer
from actors.journal import Journal
from actors.owners import Owners
from actors.prefixes import Prefixes
from actors.tunings import Tunings
from lmeraser.parallel import in_parallel
from lmeraser.state.commit import Commit
from lmeraser.state.layout import (
    CLUSTER_FOLDERS,
    DATA_FOLDERS,
    GENERATIONS,
    HEADS,
    INCOMING,
    MANIFEST,
    PUBLIC_ARTIFACTS,
    PUBLIC_KEY,
    generation_folder,
)
from lmeraser.state.manifest import Manifest
from lmeraser.store import Fence, Store

# What another generation has left is among it.
_EVERYTHING = (*DATA_FOLDERS, *PUBLIC_ARTIFACTS, GENERATIONS)


class Sweeper:
    """Knows what is to be swept: at first everything, then what commits have touched."""

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        journal: Journal,
        committer: Committer,
        tunings: Tunings,
        owners: Owners,
        prefixes: Prefixes,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._journal = journal
        self._committer = committer
        self._tunings = tunings
        self._owners = owners
        self._prefixes = prefixes
        self._touched: set[str] | None = None
        self._awaited: list[Future[None]] = []
        self._to_retire: frozenset[str] = frozenset()

    @property
    def is_due(self) -> bool:
        """Whether there is anything to sweep."""
        return bool(self._awaited) or self._touched != set()

    def follow(self, applied: ApplyResult) -> None:
        """Note what a change of rows has touched, and forget the tunings that it has stopped."""
        self._tunings.forget(applied.stopped)
        self.note(applied.touched)
        self._to_retire |= applied.ended

    def note(self, keys: Iterable[str]) -> None:
        """Have these clusters swept."""
        if self._touched is not None:
            self._touched.update(keys)

    def note_everything(self) -> None:
        """Have the whole store swept: something was given up half-way."""
        self._touched = None

    def everything(self) -> Future[None]:
        """Have the whole store swept; the future tells when that is done. Safe to call from another thread."""
        done: Future[None] = Future()
        self._awaited.append(done)
        return done

    def retire(self) -> None:
        """End the owners of clusters that are no more; if that fails, the next call ends them."""
        self._owners.retire(self._to_retire)
        self._to_retire = frozenset()

    def sweep(self) -> None:
        """Sweep what is to be swept. Raises as :func:`sweep` does."""
        self._prefixes.drop_forbidden()
        targets, keeps = self._tunings.targets, self._prefixes.keeps
        # Others may have everything swept meanwhile.
        awaited, self._awaited = self._awaited, []
        touched, self._touched = self._touched, set()
        try:
            sweep(
                self._store,
                self._manifest,
                self._committer.commit,
                None if awaited else touched,
                lambda name: name in targets or keeps(name) or self._is_in_draft(name),
                self._journal.check,
            )
        except BaseException:
            self._awaited += awaited
            self._touched = None
            raise
        for swept in awaited:
            swept.set_result(None)

    def _is_in_draft(self, name: str) -> bool:
        generation = self._journal.history.rebuild
        return generation is not None and name.startswith(generation_folder(generation))


def sweep(
    store: Store,
    manifest: Manifest,
    commit: Commit | None,
    touched: Collection[str] | None,
    writing: Callable[[str], bool],
    fence: Fence,
) -> None:
    """Remove what the commit does not name, and check by listing that it is removed.

    Args:
        store: the store.
        manifest: of its generation.
        commit: the newest commit; None before the first.
        touched: keys of the clusters that have changed since the last sweep; None to look at everything.
        writing: whether an object of this name is being written now; called after the listing, so that an object whose
            writing has begun in the meantime is safe.
        fence: raises once another coordinator, whose objects this commit does not name, has taken over (decision 41).

    Raises:
        FencedError: when another coordinator has taken over; nothing is removed then.
        StoreError: when something that was removed is still listed.
    """
    named = _named(commit, touched) | {PUBLIC_KEY, f"{manifest.folder}{MANIFEST}", *manifest.public.values()}

    def unfinished(name: str) -> bool:
        return writing(name) or not name.startswith(_EVERYTHING)

    def purge(prefix: str) -> None:
        store.purge_below(prefix, lambda name: name in named or unfinished(name), fence)

    in_parallel(purge, _prefixes(manifest.folder, touched))
    # Objects that a commit names are complete: of those, partial writes are leftovers of an owner that died.
    store.purge_partial(unfinished, fence)


def _named(commit: Commit | None, touched: Collection[str] | None) -> set[str]:
    if commit is None:
        return set()
    if touched is None:
        return commit.objects()
    entries = (commit.entry(key) for key in touched)
    return commit.heads.objects().union(*(entry.objects() for entry in entries if entry is not None))


def _prefixes(folder: str, touched: Collection[str] | None) -> Iterable[str]:
    if touched is None:
        return _EVERYTHING
    clusters = (f"{folder}{each}{key}/" for key in sorted(touched) for each in CLUSTER_FOLDERS)
    return [f"{folder}{HEADS}", INCOMING, *clusters]
