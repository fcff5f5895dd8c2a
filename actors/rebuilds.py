"""Rebuilding a store: another generation is computed beside the live one, and then takes its place (design 7).

The draft is a store of its own in a folder of the store, with a coordinator of its own. A job (cluster.rebuild) fills
it with the rows of the live generation. Every deletion reaches the draft after the live commit that erases its rows,
and is not signed before it is erased there too. Rows that were read for the draft before that commit are thus named in
the draft's log after their ingest began: they are left out, or erased again. Once the draft has the live rows and no
tuning is pending, one commit of the live log names the objects of the draft.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Protocol

from actors.committer import Committer
from actors.coordinator_status import CoordinatorStatus, RebuildStatus
from actors.fail_points import FailPoint, fail_point
from actors.ingests import IngestOutcome
from actors.journal import Journal
from actors.owners import Owners
from actors.prefixes import EXPIRY_S, Prefixes
from actors.row_index import RowIndex
from actors.sweep import Sweeper
from lmeraser.deletion import Deletion
from lmeraser.errors import FencedError, LMEraserError, NotReadyError, OwnerFailedError, RequestError
from lmeraser.hashing import canonical_json
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import Commit
from lmeraser.state.layout import MANIFEST, SWITCHING
from lmeraser.state.manifest import Manifest, draft_of, load_manifest, promoted, replace_manifest
from lmeraser.state.provenance import prompts_origin
from lmeraser.state.record_bodies import RebuildBody
from lmeraser.store import Fence, Store

# A draft that has failed is opened again after so long.
_PAUSE_S = 5.0
_log = logging.getLogger(__name__)


class DraftCoordinator(Protocol):
    """What a rebuild needs of the coordinator of its draft."""

    @property
    def prefixes(self) -> Prefixes: ...
    @property
    def index(self) -> RowIndex: ...
    @property
    def commit(self) -> Commit | None: ...
    def begin_ingest(self) -> str: ...
    def ingest(self, prefix: str, force: bool = False) -> Future[IngestOutcome]: ...
    def erase_hashes(self, samples: Collection[str], subjects: Collection[str]) -> str: ...
    def deletion(self, deletion_id: str) -> Deletion: ...
    def hold_tunings(self, reason: str) -> None: ...
    def step(self) -> bool: ...
    def idle(self) -> bool: ...
    def status(self) -> CoordinatorStatus: ...
    def retire(self) -> None: ...


# By the keyed digest of their coresets' contents, the live clusters whose prompts a draft may take over.
Origins = Callable[[], Mapping[str, ClusterEntry]]
OpenCoordinator = Callable[[Store, Manifest, Owners, Origins], DraftCoordinator]


class Rebuilds:
    """The rebuild of one coordinator's store, if one is under way.

    Attributes:
        switched: whether a draft has taken the place of the live generation, so that this coordinator must end.
        problem: why the last piece of work for the draft failed; empty if it did not.
    """

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        journal: Journal,
        committer: Committer,
        owners: Owners,
        sweeper: Sweeper,
        open_coordinator: OpenCoordinator,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._journal = journal
        self._committer = committer
        self._owners = owners
        self._sweeper = sweeper
        self._open_coordinator = open_coordinator
        self._clock = clock
        self._draft: DraftCoordinator | None = None
        # When to open the draft; infinite while it is not to be opened.
        self._open_at_s = -math.inf if self.generation is not None else math.inf
        self._abandoned = False
        # Workers of a job that was abandoned end when they next renew their prefix, or expire.
        self._swept_until_s = -math.inf
        self.switched = False
        self.problem = ""

    @property
    def generation(self) -> str | None:
        """The generation that is being made; None if none is."""
        return self._journal.history.rebuild

    def begin(self) -> str:
        """Begin a rebuild; gives the generation, whose folder is then to be made a store before :meth:`open`.

        Raises:
            RequestError: when one is under way.
        """
        with self._journal.quiet():
            if self.generation is not None:
                raise RequestError(
                    f"generation {self.generation} is being made: finish it with the same configuration, or abandon it"
                )
            generation = uuid.uuid4().hex[:12]
            self._journal.append("rebuild", RebuildBody(generation).to_body())
        return generation

    def open(self) -> None:
        """Have the draft opened by the next step. Safe to call from another thread."""
        self._open_at_s = -math.inf

    def abandon(self) -> None:
        """Give up the rebuild; the next step removes the draft. Safe to call from another thread.

        Raises:
            RequestError: when none is under way.
        """
        with self._journal.quiet():
            if self.generation is None:
                raise RequestError("no rebuild is under way")
            self._journal.append("rebuild", RebuildBody(self.generation, abandoned=True).to_body())
        self._abandoned = True

    def begin_fill(self) -> str:
        """A prefix in the draft for rows of the live generation; see Coordinator.begin_ingest."""
        return self._opened().begin_ingest()

    def renew_fill(self, prefix: str) -> None:
        """See Prefixes.renew."""
        self._opened().prefixes.renew(prefix)

    def abandon_fill(self, prefix: str) -> None:
        """See Prefixes.drop."""
        self._opened().prefixes.drop(prefix)

    def fill(self, prefix: str) -> Future[IngestOutcome]:
        """Add the rows below a prefix to the draft, but for those that were erased since the prefix was begun."""
        return self._opened().ingest(prefix, force=True)

    def status(self) -> RebuildStatus | None:
        """How far the rebuild is; None if none is under way."""
        if self.generation is None:
            return None
        draft, live = self._draft, self._committer.commit
        rows = live.rows if live is not None else 0
        return RebuildStatus(self.generation, rows, draft.status() if draft is not None else None, self.problem)

    def erase(self, deletion_ids: Collection[str]) -> None:
        """Erase from the draft what these deletions have erased from the live generation; returns when it is done.

        Raises:
            OwnerFailedError: when an owner of the draft cannot write its rows.
        """
        self._sweep_abandoned()
        if self.generation is None:
            return
        with self._draft_errors():
            # Whatever it failed of: what is not open cannot be erased from.
            if self._draft is None:
                self.open()
                self._open_if_wanted()
            if self._draft is None:
                # Its job has not made it a store yet, so it holds nothing.
                return
            request = self._draft.erase_hashes(*self._journal.history.erased_with(deletion_ids))
            while (deletion := self._draft.deletion(request)).status == "accepted":
                if deletion.reason is not None:
                    raise OwnerFailedError(deletion.reason)
                self._draft.step()
        fail_point(FailPoint.DRAFT_ERASED)

    def step(self, *, quiet: bool) -> bool:
        """Do one piece of work for the draft; False if there was none to do.

        Args:
            quiet: whether nothing is being erased in the live generation.
        """
        try:
            with self._draft_errors():
                return self._step(quiet)
        except OwnerFailedError as error:
            _log.error("%s", error)
            return False

    def _step(self, quiet: bool) -> bool:
        if self.switched:
            return False
        if self._open_if_wanted():
            return True
        if self._abandoned:
            self._sweep_abandoned()
            return True
        if self._draft is None:
            return False
        complete = self._is_complete()
        self._draft.hold_tunings("" if complete else "the draft does not have all rows yet")
        if self._draft.step():
            self.problem = ""
            return True
        if not (complete and quiet and self._draft.idle()) or self._draft.status().failed:
            return False
        self._switch(self._draft)
        return True

    @contextmanager
    def _draft_errors(self) -> Iterator[None]:
        """A draft that fails must not take the live generation with it: it is opened again after a pause."""
        try:
            yield
        except LMEraserError as error:
            if isinstance(error, FencedError):
                # Raises if it is this coordinator that was replaced. If not, one that was has opened the draft since.
                self._journal.check()
            self.problem = str(error)
            if not isinstance(error, OwnerFailedError):
                # Its memory can no longer be trusted.
                self._close()
                self._open_at_s = self._clock() + (0.0 if isinstance(error, FencedError) else _PAUSE_S)
            raise OwnerFailedError(f"the draft of generation {self.generation}: {error}") from error

    def _sweep_abandoned(self) -> None:
        """Remove a draft that was abandoned, and what a worker may still have written to it since."""
        if self._abandoned:
            self._abandoned = False
            self._close()
            self._swept_until_s = self._clock() + EXPIRY_S
        if self._clock() < self._swept_until_s:
            self._sweeper.note_everything()
            self._sweeper.sweep()

    def _close(self) -> None:
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.retire()

    def _opened(self) -> DraftCoordinator:
        if self._draft is None:
            raise NotReadyError("no draft is open: it is being opened, or no rebuild is under way")
        return self._draft

    def _open_if_wanted(self) -> bool:
        """Open the draft if there is one to be opened; whether it was opened."""
        if self._draft is not None or self.generation is None or self._clock() < self._open_at_s:
            return False
        self._open_at_s = math.inf
        store = draft_of(self._store, self.generation)
        # A job that died may have begun a rebuild and not made its draft.
        if not store.exists(MANIFEST):
            return False
        # A coordinator that was replaced must not take the draft from its successor.
        self._journal.check()
        manifest = load_manifest(store)
        same = prompts_origin(manifest) == prompts_origin(self._manifest)
        origins = self._origins if same else dict
        self._draft = self._open_coordinator(store, manifest, self._owners.of_draft(store, manifest), origins)
        return True

    def _origins(self) -> Mapping[str, ClusterEntry]:
        commit = self._committer.commit
        return commit.by_coreset_contents if commit is not None else {}

    def _is_complete(self) -> bool:
        live, draft = self._committer.commit, self._opened().commit
        return live is not None and draft is not None and live.rows == draft.rows

    def _switch(self, draft: DraftCoordinator) -> None:
        """Commit the objects of the draft as those of the store."""
        assert self.generation is not None and draft.commit is not None
        if not self._committer.index.has_the_rows_of(draft.index):
            raise OwnerFailedError(f"generation {self.generation} has other rows than the live one: abandon it")
        draft.retire()
        self._store.put(SWITCHING, canonical_json({"generation": self.generation}))
        fail_point(FailPoint.SWITCH_BEGUN)
        self._journal.append_commit(draft.commit.promoted(self.generation))
        fail_point(FailPoint.SWITCH_COMMITTED)
        self.switched = True


def finish_switch(store: Store, manifest: Manifest, commit: Commit | None, fence: Fence) -> None:
    """Do what remains to be done after the commit of a switch; nothing if there is nothing.

    Args:
        store: the store.
        manifest: that of the newest commit's generation.
        commit: the newest commit.
        fence: raises once another coordinator has taken over.
    """
    if not store.exists(SWITCHING):
        return
    if commit is not None and commit.generation == manifest.generation != "":
        fence()
        replace_manifest(store, promoted(store, manifest, manifest.generation))
        fail_point(FailPoint.MANIFEST_REPLACED)
        kept = {*commit.objects(), *manifest.public.values(), f"{manifest.folder}{MANIFEST}"}
        store.purge_below(manifest.folder, kept.__contains__, fence)
    store.purge(SWITCHING, fence)
