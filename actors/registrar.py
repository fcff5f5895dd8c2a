"""The registrar: accepts requests, orders them, plans and commits.

A plain class that does one piece of work at each :meth:`Registrar.step`; ``actors.remote_registrar`` makes it a Ray
actor whose thread calls it. Requests may come from other threads at any time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.boundaries import Boundary, reached
from actors.committer import Applied, Committer
from actors.incoming import INCOMING, Incoming, IngestOutcome, read_incoming
from actors.intake import Intake
from actors.journal import Journal
from actors.owner import TuningJob
from actors.owners import Owners
from actors.planner import Planner
from actors.prefixes import SILENCE_S, Prefixes
from actors.receipting import Receipting
from actors.sweep import sweep
from lmeraser.commit import Commit
from lmeraser.deletion import Deletion
from lmeraser.errors import DataError, NotReadyError, ObjectCorruptError, ObjectMissingError, RequestError
from lmeraser.keys import HashKey
from lmeraser.log import Log
from lmeraser.manifest import Manifest
from lmeraser.objects import object_name
from lmeraser.store import Store

_NOTHING = Applied((), frozenset())


class Registrar:
    """The one that commits. Requests are durable before they are acknowledged."""

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        hash_key: HashKey,
        signing_key: Ed25519PrivateKey,
        owners: Owners,
        lease_s: float,
        base: Commit | None = None,
    ) -> None:
        """Take over the store: open a term, and go on where the last one stopped, or from ``base`` where given."""
        self._store = store
        self._manifest = manifest
        self._hash_key = hash_key
        self._owners = owners
        self._lease_s = lease_s
        self._journal = Journal(Log(store), base)
        self._journal.open_term()
        self._committer = Committer(store, manifest, hash_key, self._journal, owners)
        self._committer.load()
        self._intake = Intake(store, hash_key, self._journal)
        self._intake.adopt(self._committer.index)
        self._retries: deque[str] = deque()
        self._receipting = Receipting(store, manifest, hash_key, signing_key, self._journal)
        self._planner = Planner(manifest.method.partition.min_tuned_rows, manifest.method.tuning.passes)
        self._requests = deque(
            deletion.id for deletion in self._journal.history.deletions.values() if deletion.status == "accepted"
        )
        self._ingests: deque[Incoming] = deque()
        self.prefixes = Prefixes(store)
        self._running: dict[str, TuningJob] = {}
        self._waiting = {
            deletion.id: set(self._awaiting())
            for deletion in self._journal.history.deletions.values()
            if deletion.status == "erased"
        }
        self._tunings = 0
        self._looked_s = time.monotonic()
        commit = self._committer.commit
        owners.prepare({entry.key: entry.rows for entry in commit.clusters} if commit is not None else {})
        self._sweep()

    def delete(
        self,
        sample_ids: Sequence[str],
        subject_ids: Sequence[str],
        idempotency_key: str | None = None,
        deadline: str | None = None,
    ) -> Deletion:
        """Accept a deletion. When this returns, the request survives any crash.

        Args:
            sample_ids: samples to delete.
            subject_ids: subjects of whom to delete every sample.
            idempotency_key: the same key and body again get the same answer.
            deadline: when it should be completed, ISO 8601 with an offset; the nearest is tuned first.

        Raises:
            NotReadyError: when the store holds no rows and never has.
            RequestError: when no id is given, or too many are, or the deadline is no such time.
            RateLimitError: when too many requests came that name no row of the system.
            IdempotencyConflictError: when the key came before with another body.
            StoreError: when the request cannot be written; it is not accepted then.
        """
        if self._committer.commit is None:
            raise NotReadyError("the store holds no rows: ingest some first")
        deletion, new = self._intake.accept(self._committer.index, sample_ids, subject_ids, idempotency_key, deadline)
        if new:
            self._requests.append(deletion.id)
        return deletion

    def deletion(self, deletion_id: str) -> Deletion:
        """One deletion. Raises UnknownDeletionError."""
        return self._journal.history.deletion(deletion_id)

    def retry(self, deletion_id: str) -> Deletion:
        """Have a failed deletion's clusters tuned again. Raises UnknownDeletionError; RequestError if not failed."""
        deletion = self._journal.history.deletion(deletion_id)
        if deletion.status != "failed":
            raise RequestError(f"deletion {deletion_id} is {deletion.status}; only one that failed is tried again")
        self._retries.append(deletion_id)
        return deletion

    def deletions(self) -> list[Deletion]:
        """All deletions, oldest first."""
        return list(self._journal.history.deletions.values())

    def receipt(self, deletion_id: str) -> dict[str, Any]:
        """A deletion's receipt.

        Raises:
            UnknownDeletionError: when there is no such deletion.
            NotReadyError: when its rows are not erased yet.
        """
        deletion = self._journal.history.deletion(deletion_id)
        if deletion.status == "accepted":
            raise NotReadyError(f"deletion {deletion_id} has no receipt before it is erased")
        return self._receipting.read(deletion_id)

    def begin_ingest(self) -> str:
        """A prefix under which to put row objects; renew it in ``prefixes``, and pass it to :meth:`ingest`."""
        return self.prefixes.begin(self._journal.position.number)

    def ingest(self, prefix: str, force: bool = False) -> Future[IngestOutcome]:
        """Add the rows under a prefix that are new; the future says what became of them once they are committed.

        Rows that are there already, the same in every byte, are passed over. Rows that were named in a deletion, or
        whose subject was, are left out; with ``force`` those alone that were named after the ingest began. The future
        raises DuplicateSampleError when a sample id comes twice or is there with other content, and RequestError when
        the ingest holds a row that is being erased and must start again; nothing is added then.

        Raises:
            RequestError: when the ingest can no longer be finished, and must start again.
        """
        ingest = Incoming(prefix, self.prefixes.hand_over(prefix), force)
        self._ingests.append(ingest)
        return ingest.outcome

    def status(self) -> dict[str, Any]:
        """What the system holds and what it waits for."""
        commit = self._committer.commit
        return {
            "term": self._journal.term,
            "commit": commit.number if commit is not None else None,
            "state_root": commit.root if commit is not None else None,
            "rows": commit.rows if commit is not None else 0,
            "clusters": len(commit.clusters) if commit is not None else 0,
            "awaiting": self._awaiting(),
            "running": sorted(self._running),
            "failed": self._planner.given_up(commit) if commit is not None else {},
            "tunings": self._tunings,
        }

    def step(self) -> bool:
        """Do one piece of work; False when there was none to do.

        Raises:
            FencedError: when a newer registrar has taken over; this one must not go on.
        """
        if self._requests:
            self._erase()
        elif self._ingests:
            self._add(self._ingests[0])
        elif self._retries:
            self._try_again(self._retries[0])
            self._retries.popleft()
        elif self.prefixes.drop_silent() or self._unswept or self._strays():
            self._sweep()
        elif not (self._take_results() or self._start_tunings() or self._complete()):
            self._owners.start_ahead()
            return False
        return True

    def idle(self) -> bool:
        """Whether nothing is asked for, running or awaited."""
        working = self._requests or self._ingests or self._retries or self._running or self._waiting or self._unswept
        return not (working or self._awaiting())

    def _erase(self) -> None:
        """Erase the rows of all requests that have come so far, in one commit."""
        ids = [self._requests[place] for place in range(len(self._requests))]
        fresh = [request_id for request_id in ids if request_id not in self._journal.history.committed]
        requests = [self._intake.resolve(request_id, self._committer.index) for request_id in fresh]
        for hashes in map(self._journal.history.named, ids):
            self.prefixes.forbid(hashes, self._journal.position.number)
        applied = self._committer.apply(requests) if fresh else _NOTHING
        self._follow(applied.left_keys, applied.touched)
        # Until the lease of every replica has run out, one may still answer from the commit before.
        time.sleep(self._lease_s)
        reached(Boundary.LEASE_WAITED)
        self._owners.retire(applied.left_keys - applied.touched)
        reached(Boundary.OWNERS_RETIRED)
        self._sweep()
        reached(Boundary.SWEPT)
        for request_id in ids:
            # A step that failed after this record is done again, and must not write it twice.
            if self._journal.history.deletion(request_id).status == "accepted":
                self._receipting.erased(request_id)
            self._intake.forget(request_id)
            reached(Boundary.REQUEST_PURGED)
            self._waiting[request_id] = set(applied.touched) if request_id in fresh else set(self._awaiting())
            self._requests.popleft()

    def _add(self, ingest: Incoming) -> None:
        history, index = self._journal.history, self._committer.index
        try:
            self.prefixes.check(ingest.prefix)
            arrived = read_incoming(self._store, ingest, history, self._hash_key, self._manifest.method, index)
        except (DataError, ObjectCorruptError, ObjectMissingError, RequestError) as error:
            return self._ended(ingest, error)
        outcome = IngestOutcome(len(arrived.index), arrived.present, arrived.erased)
        applied = self._committer.apply(arrived=arrived) if outcome.added else _NOTHING
        return self._ended(ingest, outcome, applied)

    def _ended(self, ingest: Incoming, outcome: IngestOutcome | Exception, applied: Applied = _NOTHING) -> None:
        """Sweep what lies under the prefix, and tell what became of the rows or why none was added."""
        # A later step that fails is done again, and must not add the rows a second time.
        self._ingests.popleft()
        self.prefixes.added(ingest.prefix)
        self._unswept = True
        try:
            self._follow(applied.left_keys, applied.touched)
            self._owners.retire(applied.left_keys - applied.touched)
            self._sweep()
        finally:
            ingest.tell(outcome)

    def _take_results(self) -> bool:
        results = self._owners.finished()
        for result in results:
            if self._running.get(result.job.key) == result.job:
                del self._running[result.job.key]
            self._tunings += result.written is not None
            if result.reason is not None:
                self._planner.failed(result.job, result.reason, result.may_pass)
        if results:
            self._unswept = True
            self._committer.take_specialists(results)
        return bool(results)

    def _start_tunings(self) -> bool:
        commit = self._committer.commit
        if commit is None:
            return False
        started = False
        for entry in self._planner.ready(commit, self._journal.history.deadlines(self._waiting)):
            if len(self._running) >= self._owners.slots:
                break
            if entry.key not in self._running:
                target = object_name(f"specialists/{entry.key}", "safetensors")
                position = self._journal.position
                self._running[entry.key] = TuningJob(entry.key, entry.rows_object, entry.rows_leaf, target, position)
                self._owners.start_tuning(self._running[entry.key])
                started = True
        return started

    def _complete(self) -> bool:
        commit = self._committer.commit
        awaiting = set(self._awaiting())
        done = [request_id for request_id, keys in self._waiting.items() if keys.isdisjoint(awaiting)]
        given_up = self._planner.given_up(commit) if commit is not None else {}
        for request_id in done:
            if failed := sorted(self._waiting[request_id] & set(given_up)):
                reason = f"cluster {failed[0]} could not be tuned: {given_up[failed[0]]}"
                self._journal.append("failed", {"id": request_id, "reason": reason})
            else:
                self._receipting.completed(request_id)
            del self._waiting[request_id]
        return bool(done)

    def _try_again(self, deletion_id: str) -> None:
        if self._journal.history.deletion(deletion_id).status != "failed":
            return
        commit = self._committer.commit
        assert commit is not None
        self._journal.append("retry", {"id": deletion_id})
        self._planner.retry(commit, self._planner.given_up(commit))
        self._waiting[deletion_id] = set(self._awaiting())

    def _awaiting(self) -> list[str]:
        commit = self._committer.commit
        return [entry.key for entry in self._planner.awaiting(commit)] if commit is not None else []

    def _follow(self, left: frozenset[str], touched: frozenset[str]) -> None:
        """What waits for a cluster that was regrouped waits for what it became."""
        for key in left:
            self._running.pop(key, None)
        for keys in self._waiting.values():
            if not keys.isdisjoint(left):
                keys.update(touched)

    def _sweep(self) -> None:
        self.prefixes.drop_forbidden()
        targets = {job.target for job in self._running.values()}

        def writing(name: str) -> bool:
            return name in targets or self.prefixes.keeps(name)

        sweep(self._store, self._committer.commit, writing, self._journal.check)
        self._unswept = False

    def _strays(self) -> bool:
        """Once a minute: whether rows lie where no ingest puts any, as those of a worker that outlived its ingest."""
        if time.monotonic() - self._looked_s < SILENCE_S:
            return False
        self._looked_s = time.monotonic()
        return not all(self.prefixes.keeps(name) for name in self._store.names(f"{INCOMING}/"))
