"""The clients of a history: people who delete, jobs that ingest, replicas that answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

from actors.coordinator import Coordinator
from actors.incoming import put_rows
from lmeraser.deletion import Deletion, DeletionRequest
from lmeraser.errors import DuplicateSampleError, LMEraserError, NotReadyError, RequestError
from lmeraser.state.commit import Commit
from lmeraser.state.stored_objects import read_heads
from serving.current_snapshot import CurrentSnapshot
from serving.lease import Lease
from serving.snapshot import Snapshot
from simulator.coordinators import CoordinatorActor, DiedError
from simulator.invariants import Invariants, WrongError
from simulator.ledger import Ingested, Ledger
from simulator.plan import Decide, Delete, Ingest, Require, Serve
from simulator.rows import HASH_KEY, LEASE_S, Ground
from simulator.scheduler import Scheduler
from simulator.store import MemoryStore

_ATTEMPTS = 5
_PAUSE_S = 1.0


class Clients:
    """Carries out the events of a plan."""

    def __init__(
        self,
        scheduler: Scheduler,
        store: MemoryStore,
        ground: Ground,
        ledger: Ledger,
        invariants: Invariants,
        coordinators: list[CoordinatorActor],
    ) -> None:
        self._scheduler = scheduler
        self._store = store
        self._ground = ground
        self._ledger = ledger
        self._invariants = invariants
        self._coordinators = coordinators

    def delete(self, event: Delete) -> None:
        """Send the request to one coordinator after another, with the same idempotency key, until one answers."""
        requested = self._ledger.named(event.name)
        requested.samples, requested.subjects = event.samples, event.subjects
        names = tuple(f"row-{number:02d}" for number in event.samples)

        def send(coordinator: Coordinator) -> Deletion:
            request = DeletionRequest(names, event.subjects, event.name, by="clerk")
            if event.previewed:
                preview = coordinator.previews.preview(request)
                requested.previews.add((preview.commit, preview.root))
                request = replace(request, preview=preview.token)
            deletion = coordinator.delete(request)
            requested.answered = deletion.id
            return deletion

        for attempt in range(_ATTEMPTS):
            try:
                deletion = self._coordinator(event.cluster + attempt).call("delete", send)
            except (DiedError, LMEraserError) as error:
                self._scheduler.note(f"receives {type(error).__name__}: {error}")
                self._scheduler.sleep(_PAUSE_S)
                continue
            self._scheduler.note(f"receives {deletion.status}: rows {deletion.rows}, unknown {deletion.unknown}")
            return

    def require(self, event: Require) -> None:
        """Have deletions need an approval; one coordinator after another is asked, until one answers."""
        self._until_answered(event.cluster, "require", lambda coordinator: coordinator.approvals.require(True))

    def decide(self, event: Decide) -> None:
        """Approve or decline a deletion once its client has an answer, or after a few seconds."""
        deletion = self._ledger.named(event.deletion)
        self._scheduler.wait(lambda: deletion.answered is not None, self._scheduler.now_s + 5.0)
        if (deletion_id := deletion.answered) is None:
            return

        def decided(coordinator: Coordinator) -> Deletion:
            if event.approves:
                return coordinator.approvals.approve(deletion_id, "officer")
            return coordinator.approvals.decline(deletion_id, "officer", "no")

        self._until_answered(event.cluster, "decide", decided)

    def _until_answered(self, cluster: int, verb: str, work: Callable[[Coordinator], Any]) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                self._coordinator(cluster + attempt).call(verb, work)
            except RequestError as error:
                self._scheduler.note(f"receives {type(error).__name__}: {error}")
                return
            except (DiedError, LMEraserError) as error:
                self._scheduler.note(f"receives {type(error).__name__}: {error}")
                self._scheduler.sleep(_PAUSE_S)
                continue
            return

    def ingest(self, event: Ingest) -> None:
        """Add rows as the job on the cluster does; repeat it if it has to start again."""
        for attempt in range(2 if event.again else 1):
            ingested = Ingested(event.rows, event.force)
            self._ledger.ingested.append(ingested)
            try:
                outcome = self._add(event, ingested, event.cluster + attempt)
            except DuplicateSampleError as error:
                self._scheduler.note(f"receives {type(error).__name__}: {error}")
                return
            except (DiedError, LMEraserError) as error:
                self._scheduler.note(f"receives {type(error).__name__}: {error}")
                self._scheduler.sleep(_PAUSE_S)
                continue
            self._scheduler.note(f"receives {outcome}")
            return

    def _add(self, event: Ingest, ingested: Ingested, cluster: int) -> Any:
        actor = self._coordinator(cluster)

        def begin(coordinator: Coordinator) -> str:
            ingested.requested_at = self._scheduler.points
            ingested.prefix = coordinator.begin_ingest()
            ingested.began_at = self._scheduler.points
            return ingested.prefix

        prefix = actor.call("begin", begin)
        try:
            samples = [row.sample() for row in event.rows]
            for number in range(event.objects):
                part = samples[number :: event.objects]
                if part:
                    pipeline = self._ground.pipeline
                    table, seed = pipeline.rows(part), pipeline.config.seed
                    put_rows(self._store, HASH_KEY, f"{prefix}{number}", table, seed=seed)
                actor.call("renew", lambda coordinator: coordinator.prefixes.renew(prefix))
            if event.ending == "abandon":
                raise RequestError("the client gives up")
            if event.ending == "silent":
                return "nothing, and ends without abandoning its prefix"
            future = actor.call("ingest", lambda coordinator: coordinator.ingest(prefix, event.force))
            process = actor.process
            self._scheduler.wait(lambda: future.done() or not process.alive)
            if not future.done():
                raise DiedError(process.name)
            outcome = future.result()
            if outcome.added + outcome.present + outcome.erased != len(event.rows):
                self._scheduler.fail(WrongError("outcome", f"{event.name} has {len(event.rows)} rows: {outcome}"))
        except BaseException as error:
            if isinstance(error, DiedError | LMEraserError):
                try:
                    actor.call("abandon", lambda coordinator: coordinator.prefixes.drop(prefix))
                except DiedError:
                    pass
            raise
        ingested.succeeded, ingested.ended_at = True, self._scheduler.points
        return outcome

    def serve(self, event: Serve) -> None:
        """Look, answer, and look again, as ``Replica.predict`` does."""
        lease = Lease(self._store, LEASE_S, self._clock)
        current = CurrentSnapshot(lease, self._snapshot)
        current.start()
        for _ in range(event.answers):
            try:
                snapshot = current.awaited()
                # The forward pass.
                self._scheduler.sleep(0.02)
                if lease.holds(snapshot.commit.number):
                    self._invariants.answered(snapshot.commit.number)
                    self._scheduler.note(f"answers from commit {snapshot.commit.number}")
            except NotReadyError as error:
                self._scheduler.note(f"does not answer: {error}")
            self._scheduler.sleep(0.15)
        current.stop()

    def _snapshot(self, commit: Commit, _previous: Snapshot | None) -> Snapshot:
        """Replaces ``serving.snapshot.load_snapshot``."""
        read_heads(self._store, HASH_KEY, commit)
        return cast(Snapshot, SimpleNamespace(commit=commit))

    def _clock(self) -> float:
        self._scheduler.point("read the clock")
        return self._scheduler.now_s

    def _coordinator(self, cluster: int) -> CoordinatorActor:
        """A coordinator that has not ended, once it runs or after half a minute."""
        living = [actor for actor in self._coordinators if not actor.ended] or self._coordinators
        chosen = living[cluster % len(living)]
        self._scheduler.wait(lambda: chosen.ended or chosen.coordinator is not None, self._scheduler.now_s + 30.0)
        return chosen
