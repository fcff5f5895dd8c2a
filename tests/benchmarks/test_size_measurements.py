"""Every measurement of a store gives its figures, and the sums that it compares are those of the remaining rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lib import size_deletions, size_service
from benchmarks.lib.counted_store import CountedStore
from benchmarks.lib.numbered_rows import sample_id
from benchmarks.lib.numbered_stores import NumberedStore, copy_of, make
from benchmarks.lib.size_deletions import Figures
from lmeraser.store import unfenced

ROWS = 2000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> NumberedStore:
    return make(tmp_path_factory.mktemp("sizes") / "made", ROWS, max_cluster_rows=500)


def measured(made: NumberedStore, measure: Callable[[NumberedStore], Figures]) -> Figures:
    with copy_of(made, "measured") as copy:
        figures: Figures = json.loads(json.dumps(measure(copy)))
    return figures


def test_a_start_is_measured_until_a_row_is_erased(made: NumberedStore) -> None:
    figures = measured(made, size_deletions.start)
    assert 0 < figures["accepted_s"] < figures["erased_s"]
    assert 50 * 2**20 < figures["resident_bytes"] <= figures["most_resident_bytes"]
    assert figures["objects"]["read"]["checkpoints"] == 1


def test_single_ids_are_erased_one_after_the_other(made: NumberedStore) -> None:
    figures = measured(made, partial(size_deletions.one, count=8))
    assert figures["n"] == 8 and figures["exact"]
    assert 0 < figures["accepted_s"]["median"] < figures["erased_s"]["median"]
    assert figures["median_s_by_step"]["commit appended"] > 0
    assert set(figures["most_record_bytes"]) >= {"request", "commit", "erased"}


@pytest.mark.parametrize(
    ("measure", "requests", "ids"),
    [
        (partial(size_deletions.thousand, count=50), 1, 50),
        (partial(size_deletions.requests, count=20), 20, 20),
        (partial(size_deletions.tenth, count=4), 4, 200),
    ],
)
def test_requests_are_erased(
    made: NumberedStore, measure: Callable[[NumberedStore], Figures], requests: int, ids: int
) -> None:
    figures = measured(made, measure)
    assert (figures["requests"], figures["ids"]) == (requests, ids)
    assert figures["exact"]
    assert figures["objects"]["written"]["receipts"] >= requests
    assert figures["receipts_bytes"] > 500 * requests
    assert 0 < figures["accepted_s"] < figures["erased_s"]


def test_sums_are_not_exact_when_other_rows_were_erased(made: NumberedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_deletions, "sample_id", lambda number: sample_id(number ^ 1))
    assert not measured(made, partial(size_deletions.thousand, count=3))["exact"]


def test_a_start_after_many_commits_reads_the_tail_of_the_log(made: NumberedStore) -> None:
    figures = measured(made, partial(size_deletions.log, lengths=(10, 140)))
    assert figures["10"]["read"]["log"] >= 10
    # A checkpoint follows every 64 commits.
    assert figures["140"]["read"]["log"] <= 64 + 2


def test_single_ids_are_erased_beside_a_large_request(made: NumberedStore) -> None:
    figures = measured(made, size_service.bulk)
    assert figures["ids"] == 200
    assert figures["singles"] >= 1
    assert 0 < figures["accepted_s"] < figures["erased_s"]


def test_a_replica_loads_and_reloads(made: NumberedStore) -> None:
    figures = measured(made, partial(size_service.replica, reloads=2))
    assert figures["specialists"] == 5
    assert figures["ready_s"] > 0 and figures["reload_s"]["max"] > 0


def test_an_idle_coordinator_takes_a_share_of_the_processor(made: NumberedStore) -> None:
    figures = measured(made, partial(size_service.idle, watched_s=0.3))
    assert figures["clusters"] == 5
    assert 0 <= figures["processor_share"] < 1


@pytest.mark.slow
def test_a_measurement_runs_in_a_process_of_its_own(made: NumberedStore) -> None:
    root = Path(__file__).parents[2]
    with copy_of(made, "process") as copy:
        program = [sys.executable, "-m", "benchmarks.lib.one_measurement", "start", str(copy.folder)]
        done = subprocess.run(program, cwd=root, stdout=subprocess.PIPE, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    assert figures["erased_s"] > 0


def test_a_store_counts_by_folder(tmp_path: Path) -> None:
    store = CountedStore(tmp_path)
    store.put("rows/a", b"12345")
    store.put_if_absent("log/1", b"12")
    assert store.get("rows/a") == b"12345"
    assert store.names("rows/") == ["rows/a"]
    store.purge("rows/a", unfenced)
    assert store.counts() == {
        "read": {"rows": 1},
        "read_bytes": {"rows": 5},
        "written": {"log": 1, "rows": 1},
        "written_bytes": {"log": 2, "rows": 5},
        "listed": {"rows": 1},
    }
    store.forget()
    assert store.counts()["read"] == {}
