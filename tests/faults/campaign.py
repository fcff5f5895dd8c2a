"""Kill the process that deletes, at every boundary of a deletion and at random moments, and look at what is left.

Each run copies a small tuned store, and forks a process that starts the coordinator with its owners, asks for a
deletion and works it off. The process is killed with SIGKILL at the boundary or at a random moment, once or twice; then
one that is not killed finishes, as an operator's restart would. The client asks again, with its idempotency key, where
it got no answer. Afterwards: the root is that of a fresh run on the remaining rows, the chain checks, the request was
carried out exactly once, its receipt holds, and no file holds the rows.

    python tests/faults/campaign.py --runs 28 --out docs/evidence/kills.md
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from commits import receipts_of
from small_system import System, build_system, finish, samples

from actors.coordinator import Coordinator
from actors.fail_points import EVENT, FailPoint
from actors.owners import InProcessOwners
from lmeraser.deletion import DeletionRequest
from lmeraser.proof.receipts import verify_receipt
from lmeraser.state.keys import load_signing_key
from lmeraser.state.layout import DATA_FOLDERS
from lmeraser.state.log import Log
from lmeraser.state.pipeline import Pipeline
from lmeraser.store import LocalStore

ROWS = samples(0, 24)
GOING = ("s3", "s11")
IDEMPOTENCY_KEY = "campaign"
LEASE_S = 0.02
RANDOM = "random moment"


@dataclass
class Tally:
    """What came of the runs of one kind."""

    runs: int = 0
    kills: int = 0
    finished: int = 0
    lost: int = 0
    wrong: int = 0
    faults: list[str] = field(default_factory=list)


class Campaign:
    """Runs over one store that was built once."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._original = build_system(folder / "original", "minute", 0)
        self._original.ingest(ROWS)
        self._pipeline: Pipeline = self._original.pipeline()
        remaining = [row for row in ROWS if row.sample_id not in GOING]
        self._root = self._original.fresh_root(remaining)
        self._images = [row.image for row in ROWS if row.sample_id in GOING]
        begun = time.monotonic()
        self._child(self._copy(), None)
        self._longest_s = time.monotonic() - begun

    def run(self, where: str, tally: Tally) -> None:
        """One run: kill at a boundary or at random, once or twice, then finish, then look."""
        system = self._copy()
        tally.runs += 1
        for _ in range(self._random.choice((1, 1, 2))):
            killer = self._at_random() if where == RANDOM else self._at_boundary(where)
            tally.kills += self._child(system, killer)
        if self._child(system, None):
            tally.faults.append(f"{where}: the process that was not killed did not finish")
            tally.lost += 1
            return
        faults = list(self._faults(system))
        tally.finished += 1
        tally.wrong += bool(faults)
        tally.faults += (f"{where}: {fault}" for fault in faults)
        shutil.rmtree(system.store.uri)

    def _copy(self) -> System:
        folder = self._folder / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._original.store.uri, folder)
        return replace(self._original, store=LocalStore(folder))

    def _child(self, system: System, killer: Callable[[], None] | None) -> bool:
        """Fork a process that does the work; whether it was killed or failed."""
        pid = os.fork()
        if pid == 0:
            try:
                if killer is not None:
                    killer()
                self._work(system)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        return os.waitpid(pid, 0)[1] != 0

    def _work(self, system: System) -> None:
        owners = InProcessOwners(system.store, system.manifest, system.hash_key, lambda: self._pipeline)
        signing_key = load_signing_key(system.keys)
        coordinator = Coordinator(system.store, system.manifest, system.hash_key, signing_key, owners, LEASE_S)
        coordinator.delete(DeletionRequest(GOING, idempotency_key=IDEMPOTENCY_KEY))
        finish(coordinator)

    def _at_boundary(self, where: str) -> Callable[[], None]:
        """Kill when the boundary is reached for the first or second time."""
        left = [self._random.choice((1, 1, 1, 2))]

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event == EVENT and arguments[0] == where:
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        return lambda: sys.addaudithook(hook)

    def _at_random(self) -> Callable[[], None]:
        delay_s = self._random.uniform(0.001, self._longest_s)

        def start() -> None:
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, delay_s)

        return start

    def _faults(self, system: System) -> list[str]:
        found = []
        records = Log(system.store).advance()
        newest = system.newest()
        if newest.root != self._root:
            found.append(f"the root is {newest.root[:12]}, that of a fresh run {self._root[:12]}")
        kinds = [record.kind for record in records]
        counts = {kind: kinds.count(kind) for kind in ("request", "erased", "completed", "failed")}
        if counts != {"request": 1, "erased": 1, "completed": 1, "failed": 0}:
            found.append(f"the log has {counts}")
        receipts = system.store.names("receipts/")
        named = sorted(name for names in receipts_of(system.store).values() for name in names)
        for name in receipts:
            verify_receipt(json.loads(system.store.get(name)), load_signing_key(system.keys).public_key())
        if receipts != named or system.store.names("requests/"):
            found.append(f"{len(receipts)} receipts and {len(system.store.names('requests/'))} requests are left")
        listed = {name for prefix in DATA_FOLDERS for name in system.store.names(prefix)}
        if listed != newest.objects():
            found.append(f"{len(listed ^ newest.objects())} objects are not those of the newest commit")
        unfinished = [path.name for path in Path(system.store.uri).glob(".partial/*")]
        if unfinished:
            found.append(f"{len(unfinished)} unfinished writes are left, such as {unfinished[0]}")
        for path in Path(system.store.uri).rglob("*"):
            if path.is_file() and any(image in path.read_bytes() for image in self._images):
                found.append(f"{path.name} holds an erased image")
        return found


def campaign(runs: int, seed: int) -> dict[str, Tally]:
    """Runs of every kind: each boundary, and four times as many at random moments."""
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="lmeraser-faults-") as folder:
        made = Campaign(Path(folder), seed)
        for where in (*(boundary.value for boundary in FailPoint), RANDOM):
            tallies[where] = Tally()
            for _ in range(runs * (4 if where == RANDOM else 1)):
                made.run(where, tallies[where])
            print(where, tallies[where], flush=True)
    return tallies


def table(tallies: dict[str, Tally], runs: int, seed: int) -> str:
    """The tallies as a page."""
    total = Tally(*(sum(getattr(one, name) for one in tallies.values()) for name in ("runs", "kills", "finished")))
    total.lost, total.wrong = (sum(getattr(one, name) for one in tallies.values()) for name in ("lost", "wrong"))
    lines = [
        "# Kills at every boundary",
        "",
        f"`python tests/faults/campaign.py --runs {runs} --seed {seed}`, {datetime.now(UTC).date().isoformat()}, "
        f"{os.cpu_count()} CPU cores.",
        "Coordinator and owners run in one process that is killed with SIGKILL once or twice a run; the script says",
        "what is looked at afterwards.",
        "",
        "| killed at | runs | kills | finished | lost | wrong |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {one.runs} | {one.kills} | {one.finished} | {one.lost} | {one.wrong} |"
            for name, one in (*tallies.items(), ("**all**", total))
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run what the command line asks for; 1 when anything was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tallies = campaign(arguments.runs, arguments.seed)
    if arguments.out is not None:
        arguments.out.write_text(table(tallies, arguments.runs, arguments.seed))
    faults = [fault for one in tallies.values() for fault in one.faults]
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
