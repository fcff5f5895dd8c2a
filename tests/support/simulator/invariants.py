"""What must hold after every effect on the store, at every answer, and at rest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from lmeraser.errors import LMEraserError
from lmeraser.proof.receipts import verify_receipt
from lmeraser.state.layout import DATA_FOLDERS
from lmeraser.state.log import Log
from lmeraser.state.rows import RowTable
from simulator.ledger import Ledger, RequestedDeletion, rows_in
from simulator.rows import ROWS, SIGNING_KEY, Ground, held_in
from simulator.scheduler import Process, Scheduler
from simulator.store import MemoryStore


class WrongError(Exception):
    """Raised when an invariant does not hold; ``kind`` says which."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind


class Invariants:
    """Watches one store."""

    def __init__(self, scheduler: Scheduler, ground: Ground, ledger: Ledger) -> None:
        self._scheduler = scheduler
        self._ground = ground
        self._ledger = ledger
        self._written_at: dict[str, int] = {}
        self.store: MemoryStore | None = None
        # Objects that a replaced coordinator's processes wrote too late, and which process it was.
        self.late: dict[str, Process] = {}

    def watch(self, verb: str, name: str, data: bytes | None) -> None:
        """Called by the store after each effect."""
        if verb != "write":
            self._scheduler.note(f"{verb} {name}")
        if self._ledger.restoring:
            return
        try:
            if verb == "write":
                self._written_at[name] = self._scheduler.points
                if (process := self._replaced()) is not None and not name.startswith("incoming/"):
                    # Removed again when the write is finished, or has lost its race.
                    self.late[f".partial/{name}"] = process
            elif verb == "put" and data is not None:
                self.late.pop(f".partial/{name}", None)
                self._put(name, data)
            elif verb == "purged partial":
                self.late.pop(f".partial/{name}", None)
            elif verb == "purged":
                self.late.pop(name, None)
                commit = self._ledger.commit
                if commit is not None and name in commit.objects():
                    raise WrongError("object lost", f"{name} was purged, and commit {commit.number} names it")
        except WrongError as error:
            self._scheduler.fail(error)

    def restored(self) -> None:
        """A restore is done: from here on every invariant holds again."""
        names = sorted(name for name in self._objects() if name.startswith("log/"))
        self._ledger.read((self._objects()[name] for name in names), self._scheduler.points)
        try:
            self._check_named()
            for deletion in self._ledger.requested:
                if deletion.erased:
                    self._check_erased(deletion)
        except WrongError as error:
            self._scheduler.fail(error)

    def answered(self, commit: int) -> None:
        """Called when a replica answers from this commit."""
        for deletion in self._ledger.requested:
            if deletion.erased and deletion.committed is not None and commit < deletion.committed:
                what = f"from commit {commit}, and {deletion.key} was erased by commit {deletion.committed}"
                self._scheduler.fail(WrongError("late answer", what))

    def unexpected(self, process: Process, error: BaseException) -> None:
        """Called when a coordinator ended with an error that is neither a replacement nor a failure of the medium."""
        message = f"{process.name}: {type(error).__name__}: {error}"
        if not isinstance(error, LMEraserError):
            self._scheduler.fail(WrongError("crash", message))
        elif process.name == self._ledger.newest:
            self._scheduler.fail(WrongError("coordinator ended", message))

    def _put(self, name: str, data: bytes) -> None:
        if name.startswith("log/"):
            task = self._scheduler.task
            term = json.loads(data)["term"]
            if term < self._ledger.term:
                raise WrongError("fence", f"{name} is of term {term}, and term {self._ledger.term} had begun")
            kind, about = self._ledger.record(data, task.process.name if task else "", self._scheduler.points)
            if kind == "commit":
                self._check_named()
                self._check_promises(about)
            elif kind in ("request", "approved"):
                self._check_previews(about)
            elif kind == "erased":
                for deletion in about:
                    self._check_erased(deletion)
        elif not name.startswith(DATA_FOLDERS[:-1]):
            pass
        elif (process := self._replaced()) is not None:
            self.late[name] = process
        elif name.startswith(DATA_FOLDERS):
            erased = held_in(name, data) & self._ledger.erased_rows()
            if erased:
                raise WrongError("erased row", f"row {min(erased)} is written to {name} after its erasure")

    def _check_previews(self, accepted: list[RequestedDeletion]) -> None:
        """What is to be erased as previewed was previewed on the newest commit."""
        commit = self._ledger.commit
        for deletion in accepted:
            promised = (commit.number if commit is not None else 0, deletion.promised)
            if deletion.promised is not None and promised not in deletion.previews:
                raise WrongError("stale preview", f"{deletion.key} is accepted, and its preview is of an older commit")

    def _check_promises(self, erased: list[RequestedDeletion]) -> None:
        """What was previewed has come about, unless something was committed in between."""
        commit = self._ledger.commit
        assert commit is not None
        remaining = {erasure.id for erasure in commit.erasures if erasure.remaining}
        for deletion in erased:
            if deletion.undecided:
                raise WrongError("not approved", f"{deletion.key} is erased, and waits for an approval or was declined")
            if deletion.promised in (None, commit.root) or deletion.overtaken or deletion.id in remaining:
                continue
            raise WrongError("preview", f"{deletion.key} was to give the root {deletion.promised}")

    def _check_named(self) -> None:
        commit = self._ledger.commit
        missing = commit.objects() - self._objects().keys() if commit is not None else set()
        if commit is not None and missing:
            raise WrongError("object lost", f"commit {commit.number} names {sorted(missing)[0]}, which is missing")

    def _replaced(self) -> Process | None:
        """The process that runs now, if it is of a coordinator that was replaced."""
        task = self._scheduler.task
        if task is None or _cluster(task.process.name) == _cluster(self._ledger.newest):
            return None
        return task.process

    def _excused(self) -> set[str]:
        """What may stay until the next start: what a replaced coordinator and its owners did not live to remove."""
        return {name for name, process in self.late.items() if not process.alive}

    def _check_erased(self, deletion: RequestedDeletion) -> None:
        named = {row for row in range(ROWS) if deletion.names(row)}
        erased = {row for row in named if not self._ledger.may_hold(row, deletion)}
        for name, data in self._data():
            if name in self.late:
                continue
            erased_rows = held_in(name, data) & erased
            if erased_rows and not self._may_wait(name, deletion):
                raise WrongError(
                    "erased row", f"row {min(erased_rows)} of {deletion.key} is in {name} although it counts as erased"
                )

    def _receipt_of(self, deletion_id: str) -> dict[str, Any]:
        """The receipt that the log names last."""
        objects = self._objects()
        records = [json.loads(objects[name]) for name in sorted(objects) if name.startswith("log/")]
        signed = [each["body"]["deletions"] for each in records if each["kind"] in ("erased", "completed")]
        names = [each["receipt"] for deletions in signed for each in deletions if each["id"] == deletion_id]
        receipt: dict[str, Any] = json.loads(objects[names[-1]])
        return receipt

    def _may_wait(self, name: str, deletion: RequestedDeletion) -> bool:
        """Whether an object of an ingest may hold an erased row: the ingest began after the deletion was accepted, so
        that the row is left out when the rows are added; or wrote it after the erasing commit, and must start again."""
        name = name.removeprefix(".partial/")
        if not name.startswith("incoming/"):
            return False
        ingest = next((each for each in self._ledger.ingested if each.prefix and name.startswith(each.prefix)), None)
        assert deletion.committed_at is not None and deletion.recorded_at is not None
        if ingest is None:
            return False
        return ingest.began_at > deletion.recorded_at or self._written_at[name] >= deletion.committed_at

    def _objects(self) -> dict[str, bytes]:
        assert self.store is not None
        return self.store.objects

    def _data(self) -> Iterator[tuple[str, bytes]]:
        assert self.store is not None
        for name, data in self.store.kept():
            if data is not None and name.removeprefix(".partial/").startswith(DATA_FOLDERS):
                yield name, data

    def at_rest(self, when: str) -> None:
        """Called when nothing is requested, running or awaited."""
        try:
            self._rest(when)
        except WrongError as error:
            self._scheduler.fail(error)

    def _rest(self, when: str) -> None:
        assert self.store is not None
        commit = self._ledger.commit
        assert commit is not None
        Log(MemoryStore("memory:", self.store.objects, self._scheduler, lambda *_: None)).advance()
        segments = [segment for entry in commit.clusters for segment in entry.segments]
        tables = [RowTable.from_parquet(self._objects()[segment.rows_object], "") for segment in segments]
        rows = rows_in(tables)
        numbers = {row.number for row in rows}
        if len(rows) != sum(map(len, tables)):
            raise WrongError("rows", f"{when}, a row is stored more than once")
        if commit.root != self._ground.root(rows):
            raise WrongError("root", f"{when}, the root is not that of a fresh run on {sorted(numbers)}")
        if unwanted := numbers & self._ledger.unwanted():
            raise WrongError("deleted row", f"{when}, row {min(unwanted)} is stored, and was deleted")
        if missing := self._ledger.due() - numbers:
            raise WrongError("lost row", f"{when}, row {min(missing)} is missing, and was ingested")
        if alien := rows - {row for ingest in self._ledger.ingested for row in ingest.rows}:
            raise WrongError("alien row", f"{when}, {min(alien)} is stored, and was never ingested")
        for deletion in self._ledger.requested:
            if deletion.undecided:
                continue
            if deletion.answered is not None and not (deletion.id == deletion.answered and deletion.completed):
                raise WrongError("lost request", f"{when}, {deletion.key} was accepted and is not completed")
            if deletion.completed:
                assert deletion.id is not None
                verify_receipt(self._receipt_of(deletion.id), SIGNING_KEY.public_key())
        unnamed = {name for name, _ in self._data()} - commit.objects()
        if unnamed := unnamed - (self._excused() if when == "at rest" else set()):
            holding = [name for name in unnamed if held_in(name, dict(self._data())[name]) & self._ledger.erased_rows()]
            kind = "erased row left" if holding else "left over"
            raise WrongError(kind, f"{when}, no commit names {sorted(holding or unnamed)[0]}")


def _cluster(process: str) -> str:
    """The Ray cluster of a coordinator's or an owner's process."""
    return re.split("[#.]", process)[0]
