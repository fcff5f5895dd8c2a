"""The draft of a rebuild, worked on beside the live generation without holding it up (decision 55).

The work is cut into pieces: opening the draft is one, and so is each step of its coordinator. One piece at a time runs
in an executor, a thread in production, while the live coordinator goes on. What the draft erases waits for no other
piece but the one that runs.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor, Future
from typing import Any, Protocol

from actors.coordinator_status import CoordinatorStatus
from actors.ingests import IngestOutcome
from actors.prefixes import Prefixes
from actors.row_index import RowIndex
from lmeraser.deletion import Deletion
from lmeraser.errors import FencedError, LMEraserError, NotReadyError, OwnerFailedError
from lmeraser.state.commit import Commit
from lmeraser.store import Fence

# A draft that has failed is opened again after so long.
PAUSE_S = 5.0
# While deletions wait, the draft rests so many times as long as its last piece took: it has a quarter of the time.
_RESTS = 3.0
_log = logging.getLogger(__name__)


class DraftCoordinator(Protocol):
    """What a rebuild needs of the coordinator of its draft. All but ``step`` and ``retire`` are for any thread."""

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


# Gives the keyed hashes of the samples, and of the subjects, that some deletions cover.
Covered = Callable[[Collection[str]], tuple[list[str], list[str]]]


class InThisThread(Executor):
    """Runs everything at once, in the thread that submits it: for a coordinator that works on request."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run it; what it raises is raised here."""
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class Draft:
    """The coordinator of a draft, once it is open, and the work on it. For the live coordinator's thread.

    Attributes:
        problem: why the last piece of work failed; empty if it did not.
    """

    def __init__(
        self,
        is_store: Callable[[], bool],
        open_coordinator: Callable[[], DraftCoordinator],
        hold_reason: Callable[[], str],
        check: Fence,
        executor: Executor,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A draft that is not open.

        Args:
            is_store: whether its job has made it a store; until then it holds nothing.
            open_coordinator: opens it.
            hold_reason: why no tuning may start in it yet; empty if they may.
            check: raises once the live coordinator has been replaced.
            executor: runs one piece after the other.
            wake: called when a piece has done something.
            clock: seconds that only grow.
        """
        self._is_store = is_store
        self._open_coordinator = open_coordinator
        self._hold_reason = hold_reason
        self._check = check
        self._executor = executor
        self._wake = wake
        self._clock = clock
        self._coordinator: DraftCoordinator | None = None
        self._piece: Future[bool] | None = None
        self._worked = False
        # When to open it; infinite while it is not to be opened.
        self._open_at_s = math.inf
        self._rested_at_s = -math.inf
        # By the id of a live deletion that the draft has not erased yet, the id of the draft's own.
        self._asked: dict[str, str] = {}
        self.problem = ""

    @property
    def coordinator(self) -> DraftCoordinator | None:
        """The draft's coordinator; None while the draft is not open. For any thread."""
        return self._coordinator

    @property
    def works(self) -> bool:
        """Whether a piece of work runs, or has ended and was not followed."""
        return self._piece is not None

    def opened(self) -> DraftCoordinator:
        """The draft's coordinator. For any thread. Raises NotReadyError while the draft is not open."""
        if (coordinator := self._coordinator) is None:
            raise NotReadyError("no draft is open: it is being opened, or no rebuild is under way")
        return coordinator

    def open_soon(self) -> None:
        """Have it opened. For any thread."""
        self._open_at_s = -math.inf

    def follow(self, *, deletions_wait: bool) -> bool:
        """Begin the next piece of work unless one runs; whether one has ended since that did something.

        Args:
            deletions_wait: whether something is to be erased from the live generation now, to which all but the draft's
                own erasures gives way.

        Raises:
            FencedError: when the live coordinator has been replaced.
        """
        if self.settled() and self._may_work(deletions_wait):
            self._piece = self._executor.submit(self._work)
            self._piece.add_done_callback(self._wake_after)
            self.settled()
        worked, self._worked = self._worked, False
        return worked

    def settled(self) -> bool:
        """Whether no piece of work runs. Raises FencedError when the live coordinator has been replaced."""
        if self._piece is not None and self._piece.done():
            piece, self._piece = self._piece, None
            self._worked |= piece.result()
        return self._piece is None

    def erase(self, deletion_ids: Collection[str], covered: Covered) -> bool:
        """Have the draft erase what these deletions have erased from the live generation; whether it has done so.

        To be called again until it has.

        Args:
            deletion_ids: the live deletions.
            covered: gives what some of them cover.

        Raises:
            OwnerFailedError: when the draft cannot erase them for now.
        """
        coordinator = self._coordinator
        if coordinator is None:
            if self.problem:
                raise OwnerFailedError(self.problem)
            if self.settled() and not self._is_store():
                return True
            self.open_soon()
            return False
        try:
            if new := [each for each in deletion_ids if each not in self._asked]:
                self._asked |= dict.fromkeys(new, coordinator.erase_hashes(*covered(new)))
            asked = [coordinator.deletion(name) for name in {self._asked[each] for each in deletion_ids}]
        except LMEraserError as error:
            # Whether the draft must be opened again shows in its next piece of work.
            raise OwnerFailedError(f"the draft: {error}") from error
        for deletion in asked:
            if deletion.status == "accepted" and deletion.reason is not None:
                raise OwnerFailedError(f"the draft: {deletion.reason}")
        if any(deletion.status == "accepted" for deletion in asked):
            return False
        for each in deletion_ids:
            del self._asked[each]
        return True

    def close(self) -> None:
        """End its owners, and forget it. Only while no piece of work runs."""
        assert self._piece is None
        self._asked.clear()
        self._open_at_s = math.inf
        self.problem = ""
        self._retire()

    def _may_work(self, deletions_wait: bool) -> bool:
        if self._coordinator is None:
            return self._clock() >= self._open_at_s
        return bool(self._asked) or not deletions_wait or self._clock() >= self._rested_at_s

    def _work(self) -> bool:
        """One piece, in the executor; whether it did something."""
        begun_s = self._clock()
        try:
            if self._coordinator is None:
                return self._open()
            self._coordinator.hold_tunings(self._hold_reason())
            worked = self._coordinator.step()
            self.problem = "" if worked else self.problem
            return worked
        except LMEraserError as error:
            self._failed(error)
            return False
        finally:
            ended_s = self._clock()
            self._rested_at_s = ended_s + _RESTS * (ended_s - begun_s)

    def _open(self) -> bool:
        self._open_at_s = math.inf
        # A job that died may have begun a rebuild and not made its draft.
        if not self._is_store():
            return False
        # A coordinator that was replaced must not take the draft from its successor.
        self._check()
        self._coordinator = self._open_coordinator()
        return True

    def _failed(self, error: LMEraserError) -> None:
        """A draft that fails must not take the live generation with it: it is opened again after a pause."""
        if isinstance(error, FencedError):
            # Raises if it is the live coordinator that was replaced. If not, one that was has opened the draft since.
            self._check()
        self.problem = f"the draft: {error}"
        _log.error("%s", self.problem)
        if not isinstance(error, OwnerFailedError):
            # Its memory can no longer be trusted.
            self._retire()
            self._open_at_s = self._clock() + (0.0 if isinstance(error, FencedError) else PAUSE_S)

    def _retire(self) -> None:
        coordinator, self._coordinator = self._coordinator, None
        if coordinator is not None:
            coordinator.retire()

    def _wake_after(self, piece: Future[bool]) -> None:
        if piece.exception() is not None or piece.result():
            self._wake()
