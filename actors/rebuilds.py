"""Rebuilding a store: another generation is computed beside the live one, and then takes its place (design 7).

The draft is a store of its own in a folder of the store, with a coordinator of its own (actors.draft). A job
(cluster.rebuild) fills it with the rows of the live generation. Every deletion reaches the draft after the sweep of the
live commit that erases its rows, and is not signed before it is erased there too. Rows that were read for the draft
before that sweep are thus named in the draft's log after their ingest began: they are left out, or erased again. Once
the draft has the live rows and no tuning is pending, one commit of the live log names the objects of the draft.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor, Future

from actors.committer import Committer
from actors.coordinator_status import RebuildStatus
from actors.draft import Draft, DraftCoordinator, InThisThread
from actors.fail_points import FailPoint, fail_point
from actors.ingests import IngestOutcome
from actors.journal import Journal
from actors.owners import Owners
from actors.prefixes import EXPIRY_S
from actors.rest import Rest
from actors.sweep import Sweeper
from lmeraser.errors import OwnerFailedError, RequestError
from lmeraser.hashing import canonical_json
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import Commit
from lmeraser.state.layout import MANIFEST, SWITCHING
from lmeraser.state.manifest import Manifest, draft_of, load_manifest, promoted, replace_manifest
from lmeraser.state.provenance import prompts_origin
from lmeraser.state.record_bodies import RebuildBody
from lmeraser.store import Fence, Store

# By the keyed digest of their coresets' contents, the live clusters whose prompts a draft may take over.
Origins = Callable[[], Mapping[str, ClusterEntry]]
OpenCoordinator = Callable[[Store, Manifest, Owners, Origins], DraftCoordinator]


class Rebuilds:
    """The rebuild of one coordinator's store, if one is under way.

    Attributes:
        draft: the work on its draft.
        switched: whether a draft has taken the place of the live generation, so that this coordinator must end.
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
        executor: Executor | None,
        rest: Rest,
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
        self.draft = Draft(
            self._draft_is_store,
            self._open_draft,
            self._hold_reason,
            journal.check,
            executor or InThisThread(),
            rest.wake,
            clock,
        )
        if self.generation is not None:
            self.draft.open_soon()
        self._abandoned = False
        # Workers of a job that was abandoned end when they next renew their prefix, or expire.
        self._swept_until_s = -math.inf
        self.switched = False

    @property
    def generation(self) -> str | None:
        """The generation that is being made; None if none is."""
        return self._journal.history.rebuild

    @property
    def works(self) -> bool:
        """Whether the draft is being opened, or has something to do."""
        coordinator = self.draft.coordinator
        return self.draft.works or (coordinator is not None and not coordinator.idle())

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
        """Have the draft opened soon. Safe to call from another thread."""
        self.draft.open_soon()

    def abandon(self) -> None:
        """Give up the rebuild; one of the next steps removes the draft. Safe to call from another thread.

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
        return self.draft.opened().begin_ingest()

    def renew_fill(self, prefix: str) -> None:
        """See Prefixes.renew."""
        self.draft.opened().prefixes.renew(prefix)

    def abandon_fill(self, prefix: str) -> None:
        """See Prefixes.drop."""
        self.draft.opened().prefixes.drop(prefix)

    def fill(self, prefix: str) -> Future[IngestOutcome]:
        """Add the rows below a prefix to the draft, but for those that were erased since the prefix was begun."""
        return self.draft.opened().ingest(prefix, force=True)

    def status(self) -> RebuildStatus | None:
        """How far the rebuild is; None if none is under way."""
        if self.generation is None:
            return None
        draft, live = self.draft.coordinator, self._committer.commit
        rows = live.rows if live is not None else 0
        return RebuildStatus(self.generation, rows, draft.status() if draft is not None else None, self.draft.problem)

    def erase(self, deletion_ids: Collection[str]) -> bool:
        """Have what these deletions have erased from the live generation erased from the draft; whether it is.

        To be called after the sweep, and again until it is.

        Raises:
            OwnerFailedError: when the draft cannot erase it for now.
        """
        if not self._abandoned_is_swept():
            return False
        if self.generation is None:
            return True
        try:
            erased = self.draft.erase(deletion_ids, self._journal.history.erased_with)
        except OwnerFailedError as error:
            raise OwnerFailedError(f"generation {self.generation}: {error}") from error
        if erased:
            fail_point(FailPoint.DRAFT_ERASED)
        return erased

    def follow(self, *, deletions_wait: bool, quiet: bool) -> bool:
        """Have the draft worked on, or switch to it once it is complete; whether anything was done.

        Args:
            deletions_wait: see :meth:`Draft.follow`.
            quiet: whether the live generation has nothing to erase and nothing to add.
        """
        if self.switched:
            return False
        if self._abandoned:
            return self._abandoned_is_swept()
        if self.generation is None:
            return False
        if quiet and self.draft.settled() and self._switch():
            return True
        return self.draft.follow(deletions_wait=deletions_wait)

    def _switch(self) -> bool:
        """Commit the objects of the draft as those of the store, if it is complete; whether it is."""
        draft = self.draft.coordinator
        if draft is None or not (self._is_complete(draft) and draft.idle()) or draft.status().failed:
            return False
        assert self.generation is not None and draft.commit is not None
        if not self._committer.index.has_the_rows_of(draft.index):
            self.draft.problem = f"generation {self.generation} has other rows than the live one: abandon it"
            return False
        draft.retire()
        self._store.put(SWITCHING, canonical_json({"generation": self.generation}))
        fail_point(FailPoint.SWITCH_BEGUN)
        self._journal.append_commit(draft.commit.promoted(self.generation))
        fail_point(FailPoint.SWITCH_COMMITTED)
        self.switched = True
        return True

    def _abandoned_is_swept(self) -> bool:
        """Remove a draft that was abandoned, and what a worker may still have written to it since.

        False while a piece of work on it runs.
        """
        if self._abandoned:
            if not self.draft.settled():
                return False
            self._abandoned = False
            self.draft.close()
            self._swept_until_s = self._clock() + EXPIRY_S
        if self._clock() < self._swept_until_s:
            self._sweeper.note_everything()
            self._sweeper.sweep()
        return True

    def _draft_is_store(self) -> bool:
        return self.generation is not None and draft_of(self._store, self.generation).exists(MANIFEST)

    def _open_draft(self) -> DraftCoordinator:
        assert self.generation is not None
        store = draft_of(self._store, self.generation)
        manifest = load_manifest(store)
        same = prompts_origin(manifest) == prompts_origin(self._manifest)
        origins = self._origins if same else dict
        return self._open_coordinator(store, manifest, self._owners.of_draft(store, manifest), origins)

    def _hold_reason(self) -> str:
        return "" if self._is_complete(self.draft.opened()) else "the draft does not have all rows yet"

    def _origins(self) -> Mapping[str, ClusterEntry]:
        commit = self._committer.commit
        return commit.by_coreset_contents if commit is not None else {}

    def _is_complete(self, draft: DraftCoordinator) -> bool:
        live, made = self._committer.commit, draft.commit
        return live is not None and made is not None and live.rows == made.rows


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
