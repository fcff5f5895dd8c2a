"""The one law as a property: after any history the state is what the remaining rows give, byte for byte.

Histories are made by Hypothesis: rows come and go by sample and by subject, in any grouping and order, some again and
again, with restarts in between and owners that finish in any order. Coordinators that were replaced work on beside
their successors until they notice, with an ingest to sweep away. The truth is a fresh run that knows no history.
Clusters have up to ten rows, six of them in the coreset, in segments of two.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exact_world import HISTORIES, MANY, PLAIN_HISTORIES, check_history
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import seed as seeded
from simulator.breakages import Breakage, broken
from small_system import System, build_system

from lmeraser.data import Sample
from lmeraser.proof.recompute import fresh_leaves
from lmeraser.state.merkle import merkle_root
from lmeraser.state.pipeline import Pipeline

RootOf = Callable[[dict[str, Sample]], str]
EXAMPLES = int(os.environ.get("LMERASER_EXAMPLES", "200"))
PLANTED = (
    Breakage(
        "erased rows stay in their segment", "actors.rewriting:Rewriting.read", "if not removed_N.any():", "if True:"
    ),
    Breakage(
        "erased rows stay in the shared head",
        "actors.transition:Transition.heads_after",
        "shared = shared - sum_of((each.shared for each in removed), shared)",
        "pass",
    ),
    Breakage(
        "erased rows stay in the pooled head",
        "actors.head_sums:HeadSums.pooled_after",
        "return after - sum_of((each.pooled for each in removed), pooled)",
        "return after",
    ),
    Breakage(
        "remaining rows get the prompted features of erased ones",
        "actors.rewriting:Rewriting._take_apart",
        "pool.features.append(features_NH[~removed_N])",
        "pool.features.append(np.roll(features_NH, 1, axis=0)[~removed_N])",
    ),
    Breakage(
        "a prompt stays although its coreset changed",
        "actors.rewriting:Rewriting._keeps_prompt",
        " and coreset_leaf == entry.coreset_leaf",
        "",
    ),
    Breakage(
        "a coreset depends on the order in which rows came",
        "lmeraser.state.segment:SegmentIndex.coreset",
        "return coreset(self.coreset_N, self.labels_N, size)",
        "return np.arange(min(size, len(self)))",
    ),
    Breakage(
        "a cluster is divided one row too late",
        "actors.committer:Committer._partition",
        "self._manifest.config.partition.max_cluster_rows,",
        "self._manifest.config.partition.max_cluster_rows + 1,",
    ),
    Breakage(
        "rows of a cluster that ends stay in the shared head",
        "actors.transition:Transition.heads_after",
        "shared = shared - sum_of(sums.rows_of(regrouping.ended, change.removed.samples_R32), shared)",
        "pass",
    ),
)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> System:
    return build_system(tmp_path_factory.mktemp("exactness"), "history", 0)


@pytest.fixture(scope="session")
def pipeline(empty: System) -> Pipeline:
    return empty.pipeline()


@pytest.fixture(scope="session")
def root_of(empty: System, pipeline: Pipeline) -> RootOf:
    def root(rows: dict[str, Sample]) -> str:
        return merkle_root(fresh_leaves(pipeline, empty.manifest, empty.hash_key, list(rows.values())))

    return root


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmeraser.state.segment.MAX_SEGMENT_ROWS", 2)
    monkeypatch.setattr("actors.checkpoints.MAX_COMMITS", 2)
    monkeypatch.setattr("actors.eraser.MAX_SEGMENTS", 2)


@pytest.mark.slow
@pytest.mark.usefixtures("small_segments")
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(HISTORIES, MANY)
# The step between the two does not erase: a checkpoint is due first.
@example(
    [("ingest", ["s16"], False), ("delete samples", ["s0"]), ("work", 1), ("ingest", ["s0"], False)],
    ["s0", "s1", "s10", "s11", "s12", "s13", "s14", "s15"],
)
def test_after_any_history_the_state_is_that_of_a_fresh_run_on_the_remaining_rows(
    empty: System,
    pipeline: Pipeline,
    root_of: RootOf,
    tmp_path: Path,
    events: list[tuple[Any, ...]],
    first: list[str],
) -> None:
    check_history(empty, pipeline, root_of, tmp_path / "store", events, first)


@pytest.mark.slow
@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.what)
def test_a_planted_error_does_not_pass(
    empty: System, pipeline: Pipeline, root_of: RootOf, tmp_path: Path, planted: Breakage
) -> None:
    @seeded(0)
    @settings(
        max_examples=50,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(PLAIN_HISTORIES, MANY)
    def histories(events: list[tuple[Any, ...]], first: list[str]) -> None:
        check_history(empty, pipeline, root_of, tmp_path / "store", events, first)

    # Sums that are no longer those of any rows may also make an assertion of the system fail.
    with broken(planted), pytest.raises(AssertionError):
        histories()
