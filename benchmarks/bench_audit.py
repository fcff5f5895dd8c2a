"""Does the audit see rows before their deletion, and nothing after 1, 10 and 100 deletions, or after chosen ones?

The demo's configuration: handwritten digits under a small Vision Transformer that `lmeraser pretrain` trains on glyphs.
The store is made by the command line; deletions go through the coordinator's own class with its owners in this process.
Prints one JSON object for each case, and leaves each case's report in the folder. The store is kept there for the next
run.

    python -m benchmarks.bench_audit --out /tmp/audit
    python -m benchmarks.bench_audit --out /tmp/audit --cases 10 chosen --shadows 128
    python -m benchmarks.bench_audit --out /tmp/audit --cases 1 --shadows 8

Legend: N rows, C classes, H head features.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from actors.coordinator import Coordinator
from benchmarks.lib.background import wait_until
from benchmarks.lib.harness import machine
from benchmarks.lib.settings import DIGITS_CONFIG
from benchmarks.lib.synthetic_stores import DigitStore, copy_of, running_coordinator
from lmeraser.audit import Audit, Plan, Question, audit, to_html
from lmeraser.audit.attack import confidence
from lmeraser.config import load_config
from lmeraser.data import Sample, open_source
from lmeraser.deletion import DeletionRequest
from lmeraser.hashing import draw
from lmeraser.learning.heads import blend
from lmeraser.proof.verify import current_commit
from lmeraser.state.keys import load_hash_key, load_signing_key
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.stored_objects import read_cluster, read_heads_state
from lmeraser.store import LocalStore

_ROUNDS, _EACH = 5, 4
_DRAWN = {"1": 1, "10": 10, "100": 100}
_LEASE_S = 0.0


def main() -> None:
    """Print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the store and the reports")
    parser.add_argument("--cases", nargs="+", choices=[*_DRAWN, "chosen"], default=[*_DRAWN, "chosen"])
    parser.add_argument("--shadows", type=int, default=64)
    parser.add_argument("--attacked", type=int, default=1)
    parser.add_argument("--controls", action="store_true", help="in the first case, also audit faked deletions")
    arguments = parser.parse_args()
    folder = arguments.out.absolute()
    prepare(folder)
    config = load_config(DIGITS_CONFIG)
    rows = list(open_source(config.private).samples(open_source(config.private).labels))
    original = DigitStore(folder, tuple(row.sample_id for row in rows))
    serving = config.serving
    plan = Plan(arguments.shadows, 32, arguments.attacked, serving.specialist_weight, serving.temperature)
    for case in arguments.cases:
        with copy_of(original) as copy:
            begun = time.monotonic()
            if case == "chosen":
                requests = delete_least_sure(copy, plan)
            else:
                requests = delete_drawn(copy, original.sample_ids, _DRAWN[case])
            deleting_s = time.monotonic() - begun
            begun = time.monotonic()
            report = audit_copy(copy, requests, rows, plan, arguments.controls and case == arguments.cases[0])
        figures = {"case": case, "deletions": len(requests), "verdict": report.verdict, **figures_of(report)}
        seconds = {"deleting_s": round(deleting_s, 1), "audit_s": round(time.monotonic() - begun, 1)}
        print(json.dumps({**figures, **seconds, **machine()}), flush=True)
        (folder / f"{case}.html").write_text(to_html(report))
        (folder / f"{case}.json").write_text(json.dumps(report.to_json(), indent=2))


def prepare(folder: Path) -> None:
    """Make the store with the command line, unless it exists."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    store = ["--config", str(DIGITS_CONFIG), "--store", str(folder / "store")]
    keys = ["--keys", str(folder / "keys")]
    for command in (["keys", "init", *keys], ["pretrain", *store], ["ingest", *store, *keys], ["tune", *store, *keys]):
        environment = {**os.environ, "RAY_ADDRESS": "local"}
        subprocess.run([sys.executable, "-m", "cluster.cli", *command], check=True, stdout=sys.stderr, env=environment)
    (folder / "done").touch()


def delete_drawn(copy: Path, sample_ids: Sequence[str], count: int) -> list[str]:
    """Delete rows drawn by hash, each erased before the next request, then have all clusters tuned."""
    names = sorted(sample_ids, key=lambda name: draw(0, "audited", name))[:count]
    with _coordinator(copy) as coordinator:
        requests = []
        for name in names:
            requests.append(coordinator.delete(DeletionRequest((name,))).id)
            wait_until(lambda: coordinator.deletion(requests[-1]).status != "accepted")
        wait_until(coordinator.idle)
    return requests


def delete_least_sure(copy: Path, plan: Plan) -> list[str]:
    """Delete the rows that the published model is least sure of, and have it tuned; several rounds."""
    requests: list[str] = []
    for _ in range(_ROUNDS):
        names = [name for name, _ in sorted(_published(copy, plan), key=lambda pair: pair[1])[:_EACH]]
        with _coordinator(copy) as coordinator:
            requests.append(coordinator.delete(DeletionRequest(tuple(names))).id)
            wait_until(coordinator.idle)
    return requests


def audit_copy(copy: Path, requests: Sequence[str], rows: Sequence[Sample], plan: Plan, controls: bool) -> Audit:
    """Audit with access to the deleted rows."""
    store = LocalStore(copy / "store")
    question = Question(tuple(requests), plan, source=rows)
    key = load_signing_key(copy / "keys").public_key()
    return audit(store, load_hash_key(copy / "keys"), key, question, controls, os.cpu_count() or 1, _report)


def figures_of(report: Audit) -> dict[str, Any]:
    """Figures of the sections."""
    by_name = {section.name: section for section in report.sections}
    membership = by_name["membership"].figures
    stages = ("before", "erased", "completed", "control")
    names = ("worlds", "targets", "deleted_rows", "tunings", "equal_worlds")
    return {
        "sections": {name: section.status for name, section in by_name.items()},
        "rows": by_name["recomputation"].figures["rows"],
        "root_equal": by_name["recomputation"].figures["fresh_root"] == report.state_root,
        "touched": len([name for name in by_name["recomputation"].figures["touched"] if name.startswith("rows/")]),
        **{name: membership[name] for name in names},
        **{stage: {part: membership[stage][part] for part in ("auc", "tpr_at_fpr", "others")} for stage in stages},
        **({"caught_by": by_name["controls"].figures["caught_by"]} if "controls" in by_name else {}),
    }


def _published(copy: Path, plan: Plan) -> Iterator[tuple[str, float]]:
    """The published model's confidence in each row that remains."""
    store, key = LocalStore(copy / "store"), load_hash_key(copy / "keys")
    pipeline = _pipeline(copy)
    commit = current_commit(store)
    heads = read_heads_state(store, key, commit)
    for entry in commit.clusters:
        rows, own = read_cluster(store, key, entry)
        shared_NC = heads.solved.shared.scores(rows.features_NH)
        pooled_NC, has_N = shared_NC, np.full(len(rows), own is not None)
        if own is not None:
            features_NH = pipeline.embedded(rows.images, own.prompt)
            pooled_NC = heads.solved.pooled.scores(features_NH)
        mixed_NC = blend(shared_NC, pooled_NC, has_N, plan.specialist_weight, plan.temperature)
        yield from zip(rows.sample_ids, confidence(mixed_NC, rows.labels_N).tolist(), strict=True)


def _pipeline(copy: Path) -> Pipeline:
    return DigitStore(copy).pipeline


def _coordinator(copy: Path) -> AbstractContextManager[Coordinator]:
    return running_coordinator(copy, _pipeline(copy), _LEASE_S)


def _report(what: str, done: int, total: int) -> None:
    if done == total:
        print(f"{what}: {total} done", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
