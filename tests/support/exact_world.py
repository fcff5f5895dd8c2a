"""A system under a random history, next to what its rows should be by plain set arithmetic."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from small_system import System, samples

from actors.coordinator import Coordinator
from actors.incoming import put_rows
from actors.ingests import IngestOutcome
from actors.jobs import TuningJob
from actors.owners import InProcessOwners, TuningResult
from lmeraser.data import Sample
from lmeraser.deletion import Deletion, DeletionRequest, Preview
from lmeraser.errors import FencedError, RequestError, StalePreviewError
from lmeraser.state.keys import load_signing_key
from lmeraser.state.layout import DATA_FOLDERS
from lmeraser.state.pipeline import Pipeline
from lmeraser.store import LocalStore

# One row in four has no subject.
ROWS = {
    row.sample_id: replace(row, subject_id=f"person{number % 7}" if number % 4 else None)
    for number, row in enumerate(samples(0, 24))
}
MANY = st.lists(st.sampled_from(sorted(ROWS)), min_size=8, max_size=16, unique=True)
# Mostly few, so that some clusters are touched and others are not.
NUMBERS = st.one_of(st.lists(st.sampled_from(sorted(ROWS)), min_size=1, max_size=2, unique=True), MANY)
PEOPLE = st.lists(
    st.sampled_from(sorted({row.subject_id for row in ROWS.values() if row.subject_id})), min_size=1, max_size=2
)
# What changes rows, and what interrupts.
PLAIN_EVENTS = st.one_of(
    st.tuples(st.just("ingest"), NUMBERS, st.booleans()),
    st.tuples(st.just("delete samples"), NUMBERS),
    st.tuples(st.just("delete subjects"), PEOPLE),
    st.tuples(st.just("delete both"), NUMBERS, PEOPLE),
    st.tuples(st.just("work"), st.sampled_from((1, 3))),
    st.tuples(st.just("work"), st.just(100)),
    st.tuples(st.just("restart"), st.integers(1, 3)),
    st.tuples(st.just("take over"), st.integers(1, 3)),
)
# With what an officer does about deletions.
EVENTS = st.one_of(
    PLAIN_EVENTS,
    PLAIN_EVENTS,
    st.tuples(st.just("delete as previewed"), NUMBERS, PEOPLE),
    st.tuples(st.just("preview"), NUMBERS, PEOPLE),
    st.tuples(st.just("delete as previewed before")),
    st.tuples(st.just("require approval"), st.booleans()),
    st.tuples(st.just("approve"), st.booleans()),
    st.tuples(st.just("decline")),
)


class AnyOrderOwners(InProcessOwners):
    """Several tunings at a time; the last started ends first."""

    def __init__(self, slots: int, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._most_tunings = slots

    @property
    def slots(self) -> int:
        return self._most_tunings

    def start_tuning(self, job: TuningJob) -> None:
        self._queue.insert(0, job)

    def finished(self) -> list[TuningResult]:
        return [result for _ in range(len(self._queue)) for result in super(AnyOrderOwners, self).finished()]


class World:
    """A system, and what its rows should be by plain set arithmetic."""

    def __init__(self, system: System, pipeline: Pipeline) -> None:
        self.system = system
        self.pipeline = pipeline
        self.rows: dict[str, Sample] = {}
        self.erased: set[str] = set()
        # What each deletion names, by the deletion's id.
        self.named: dict[str, set[str]] = {}
        # The newest preview with what it is of, and those that deletions were accepted with, by the deletion's id.
        self.preview: tuple[Preview, list[str], list[str]] | None = None
        self.bound: dict[str, Preview] = {}
        # What waits for an approval names, oldest first, by the deletion's id.
        self.undecided: dict[str, tuple[list[str], list[str]]] = {}
        self.replaced: list[Coordinator] = []
        self.coordinator = self.start(1)

    def start(self, slots: int) -> Coordinator:
        store, manifest, hash_key = self.system.store, self.system.manifest, self.system.hash_key
        owners = AnyOrderOwners(slots, store, manifest, hash_key, lambda: self.pipeline)
        return Coordinator(store, manifest, hash_key, load_signing_key(self.system.keys), owners, lease_s=0.0)

    def ingest(self, names: list[str], force: bool) -> None:
        rows = [ROWS[name] for name in names]
        waiting = self.waiting()
        outcome = self.outcome(rows, force)
        if isinstance(outcome, RequestError):
            # A row whose deletion was requested but not erased yet: the ingest is started again.
            assert any({row.sample_id, row.subject_id} & waiting for row in rows)
            outcome = self.outcome(rows, force)
        erased = {row.sample_id for row in rows if not force and {row.sample_id, row.subject_id} & self.erased}
        present = set(names) & self.rows.keys() - erased
        added = {row.sample_id: row for row in rows if row.sample_id not in erased | present}
        assert outcome == IngestOutcome(len(added), len(present), len(erased))
        self.rows |= added

    def outcome(self, rows: list[Sample], force: bool) -> IngestOutcome | BaseException:
        """What became of an ingest."""
        prefix = self.coordinator.begin_ingest()
        for part in (rows[::2], rows[1::2]):
            put_rows(
                self.system.store,
                self.system.hash_key,
                f"{prefix}{len(part)}-{id(part)}",
                self.pipeline.rows(part),
                seed=self.pipeline.config.seed,
            )
        future = self.coordinator.ingest(prefix, force)
        while not future.done():
            self.step()
        return future.exception() or future.result()

    def make_preview(self, names: list[str], people: list[str]) -> None:
        """Preview a deletion. Rows whose deletion is accepted and not carried out are still covered."""
        preview = self.coordinator.previews.preview(DeletionRequest(tuple(names), tuple(people)), with_ids=True)
        covered = {name for name, row in self.rows.items() if name in names or row.subject_id in people}
        assert preview.sample_ids is not None and covered <= set(preview.sample_ids) <= covered | self.waiting()
        assert preview.rows == len(preview.sample_ids) and preview.coreset_rows <= preview.rows
        self.preview = preview, names, people

    def delete_as_previewed(self) -> None:
        """Delete what the newest preview was of; refused, and without any effect, if something was committed since."""
        if self.preview is None:
            return
        preview, names, people = self.preview
        history = self.coordinator.recent_deletions()
        waits = {each.id for each in history if each.status == "accepted"} & self.bound.keys()
        stale = preview.commit != self.coordinator.status().commit or waits
        before = self.coordinator.status().log_records
        try:
            deletion = self.delete(names, people, preview.token)
        except StalePreviewError:
            assert stale and self.coordinator.status().log_records == before
            return
        assert not stale
        self.bound[deletion] = preview

    def delete(self, names: list[str], people: list[str], preview: str | None = None) -> str:
        deletion = self.coordinator.delete(DeletionRequest(tuple(names), tuple(people), preview=preview, by="clerk"))
        if deletion.status == "requested":
            self.undecided[deletion.id] = names, people
        else:
            self.remove(deletion.id, names, people)
        return deletion.id

    def remove(self, deletion_id: str, names: list[str], people: list[str]) -> None:
        """What a deletion does, once it is accepted."""
        deleted = {name for name, row in self.rows.items() if name in names or row.subject_id in people}
        # Named ids are remembered even if the system did not hold them.
        self.named[deletion_id] = deleted.union(names, people)
        self.erased |= self.named[deletion_id]
        for name in deleted:
            del self.rows[name]

    def approve(self, previewed: bool) -> None:
        """Approve what has waited longest, as its approver previews it now or as it was requested."""
        if not self.undecided:
            return
        deletion_id = next(iter(self.undecided))
        preview = self.coordinator.previews.preview_of(deletion_id) if previewed else self.bound.get(deletion_id)
        try:
            self.coordinator.approvals.approve(deletion_id, "officer", preview.token if preview and previewed else None)
        except StalePreviewError:
            assert self.coordinator.deletion(deletion_id).status == "requested"
            return
        if preview is not None:
            self.bound[deletion_id] = preview
        self.remove(deletion_id, *self.undecided.pop(deletion_id))

    def decline(self) -> None:
        if self.undecided:
            deletion_id = next(iter(self.undecided))
            self.coordinator.approvals.decline(deletion_id, "officer", "not now")
            del self.undecided[deletion_id]
            self.bound.pop(deletion_id, None)

    def waiting(self) -> set[str]:
        """What is named by deletions that are accepted but not erased."""
        accepted = (deletion.id for deletion in self.coordinator.recent_deletions() if deletion.status == "accepted")
        return set().union(*(self.named[deletion_id] for deletion_id in accepted))

    def step(self) -> None:
        for coordinator in list(self.replaced):
            try:
                coordinator.step()
            except FencedError:
                self.replaced.remove(coordinator)
        self.coordinator.step()

    def take_over(self, slots: int) -> None:
        """A second coordinator takes over; the first works on, with an abandoned ingest to sweep away."""
        prefix = self.coordinator.begin_ingest()
        put_rows(
            self.system.store,
            self.system.hash_key,
            f"{prefix}0",
            self.pipeline.rows([ROWS["s0"]]),
            seed=self.pipeline.config.seed,
        )
        self.coordinator.prefixes.drop(prefix)
        self.replaced.append(self.coordinator)
        self.coordinator = self.start(slots)

    def happen(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("ingest", names, force):
                self.ingest(names, force)
            case ("delete samples", names):
                self.delete(names, [])
            case ("delete subjects", people):
                self.delete([], people)
            case ("delete both", names, people):
                self.delete(names, people)
            case ("preview", names, people):
                self.make_preview(names, people)
            case ("delete as previewed before",):
                self.delete_as_previewed()
            case ("delete as previewed", names, people):
                self.make_preview(names, people)
                self.delete_as_previewed()
            case ("require approval", required):
                self.coordinator.approvals.require(required)
            case ("approve", previewed):
                self.approve(previewed)
            case ("decline",):
                self.decline()
            case ("work", steps):
                for _ in range(steps):
                    self.step()
            case ("restart", slots):
                self.coordinator = self.start(slots)
            case ("take over", slots):
                self.take_over(slots)

    def finish(self) -> None:
        while self.coordinator.step():
            pass
        # One that has nothing to add or to remove any more does no harm, and need not notice.
        self.step()
        while self.coordinator.step():
            pass
        assert self.coordinator.idle()
        deletions = {each.id: each for each in self.coordinator.recent_deletions()}
        waiting = {name for name, each in deletions.items() if each.status == "requested"}
        assert waiting == self.undecided.keys()
        for deletion_id, preview in self.bound.items():
            if deletion_id not in waiting:
                self.check_bound(deletions.get(deletion_id), preview, self.coordinator.receipt(deletion_id))

    def check_bound(self, deletion: Deletion | None, preview: Preview, receipt: dict[str, Any]) -> None:
        """What a preview said has come about, byte for byte."""
        # One that was archived is known by its receipt.
        assert deletion is None or deletion.as_previewed
        assert (receipt["after"]["root"], receipt["rows"]) == (preview.root, preview.rows)
        assert receipt["unknown"] == preview.unknown and tuple(receipt["clusters"]) == preview.clusters


HISTORIES = st.lists(EVENTS, min_size=1, max_size=8)
PLAIN_HISTORIES = st.lists(PLAIN_EVENTS, min_size=1, max_size=8)


def check_history(
    empty: System,
    pipeline: Pipeline,
    root_of: Callable[[dict[str, Sample]], str],
    folder: Path,
    events: list[tuple[Any, ...]],
    first: list[str],
) -> None:
    """Run a history on a copy of the empty system, and compare the state with a fresh run on the remaining rows."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(empty.store.uri, folder)
    world = World(replace(empty, store=LocalStore(folder)), pipeline)
    world.ingest(first, force=False)
    # Most deletions meet clusters that are tuned.
    world.finish()
    for event in events:
        world.happen(event)
    world.finish()
    newest = world.system.newest()
    assert newest.rows == len(world.rows)
    assert newest.root == root_of(world.rows)
    listed = {name for prefix in DATA_FOLDERS for name in world.system.store.names(prefix)}
    assert listed == newest.objects()
