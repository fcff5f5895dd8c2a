"""Random histories in which a store is rebuilt: in the end its state is that of a fresh run under its configuration."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exact_world import EVENTS, MANY, World
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rebuilding import Rebuild
from simulator.breakages import Breakage, broken
from small_system import System, build_system

from lmeraser.config import StateConfig
from lmeraser.data import Sample
from lmeraser.errors import NotReadyError
from lmeraser.proof.recompute import fresh_leaves
from lmeraser.state.layout import GENERATIONS
from lmeraser.state.merkle import merkle_root
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.store import LocalStore

EXAMPLES = int(os.environ.get("LMERASER_EXAMPLES", "12"))
CHANGES: dict[str, Callable[[StateConfig], StateConfig]] = {
    "a label": lambda config: replace(config, labels=(*config.labels, f"label {len(config.labels)}")),
    "the bound": lambda config: replace(
        config, partition=replace(config.partition, max_cluster_rows=22 - config.partition.max_cluster_rows)
    ),
    "the coreset": lambda config: replace(
        config, tuning=replace(config.tuning, coreset_rows=10 - config.tuning.coreset_rows)
    ),
}
REBUILDS = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from(sorted(CHANGES))),
    st.tuples(st.just("fill")),
    st.tuples(st.just("abandon")),
)
HISTORIES = st.lists(st.one_of(EVENTS, REBUILDS), min_size=2, max_size=8)


class RebuiltWorld(World):
    """A world whose store is rebuilt now and then."""

    rebuild: Rebuild | None = None

    def step(self) -> None:
        super().step()
        if self.coordinator.rebuilds.switched:
            self.follow_switch()

    def follow_switch(self) -> None:
        self.rebuild = None
        self.pipeline = self.system.pipeline()
        self.coordinator = self.start(1)

    def happen(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("begin", change) if self.rebuild is None and self.rows:
                self.rebuild = Rebuild(self.system, CHANGES[change](self.system.manifest.config))
                self.rebuild.begin(self.coordinator)
            case ("fill",) if self.rebuild is not None:
                self.fill(self.rebuild)
            case ("abandon",) if self.rebuild is not None:
                self.coordinator.rebuilds.abandon()
                self.rebuild = None
            case ("begin" | "fill" | "abandon", *_):
                pass
            case _:
                super().happen(event)

    def fill(self, rebuild: Rebuild) -> None:
        try:
            rebuild.fill(self.coordinator)
        except NotReadyError:
            self.step()
        if self.coordinator.rebuilds.switched:
            self.follow_switch()

    def finish(self) -> None:
        # A rebuild of no rows never ends.
        if self.rebuild is not None and not self.rows:
            self.happen(("abandon",))
        for _ in range(30):
            if self.rebuild is None:
                break
            self.fill(self.rebuild)
            for _ in range(100):
                self.step()
                if self.rebuild is None:
                    break
        assert self.rebuild is None, f"the rebuild does not end: {self.coordinator.rebuilds.status()}"
        super().finish()


def check(empty: System, folder: Path, events: list[tuple[Any, ...]], first: list[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(empty.store.uri, folder)
    system = replace(empty, store=LocalStore(folder))
    world = RebuiltWorld(system, system.pipeline())
    world.ingest(first, force=False)
    world.finish()
    for event in events:
        world.happen(event)
    world.finish()
    newest, manifest = system.newest(), system.manifest
    assert newest.rows == len(world.rows)
    assert newest.root == root_of(system, list(world.rows.values()))
    assert [name for name in system.store.names(GENERATIONS) if not name.startswith(manifest.folder or "no")] == []
    statuses = {each.status for each in world.coordinator.recent_deletions()}
    assert statuses <= {"completed", "requested", "declined"}


def root_of(system: System, rows: list[Sample]) -> str:
    manifest = system.manifest
    return merkle_root(fresh_leaves(load_pipeline(system.store, manifest), manifest, system.hash_key, rows))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> System:
    return build_system(tmp_path_factory.mktemp("rebuilds"), "history", 0)


@pytest.mark.slow
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(HISTORIES, MANY)
# The coordinator that was replaced opens the draft after its successor has.
@example([("begin", "a label"), ("restart", 1), ("take over", 1)], [f"s{number}" for number in range(8)])
def test_after_any_history_with_rebuilds_the_state_is_that_of_a_fresh_run(
    empty: System, tmp_path: Path, events: list[tuple[Any, ...]], first: list[str]
) -> None:
    check(empty, tmp_path / "store", events, first)


PLANTED = (
    Breakage(
        "a deletion does not reach the draft",
        "actors.eraser:Eraser._finish",
        "not self._rebuilds.erase(ids)",
        "False",
    ),
    Breakage(
        "a prompt is taken over although its coreset is another one",
        "actors.tunings:Tunings._job",
        "self._origins().get(entry.coreset_contents)",
        "next(iter(self._origins().values()), None)",
    ),
    Breakage(
        "rows that were erased after they were read are added to the draft",
        "actors.draft:Draft.erase",
        "*covered(new)",
        "covered(new)[0][:1], []",
    ),
)
STORY: list[tuple[Any, ...]] = [
    ("begin", "the bound"),
    ("work", 1),
    ("fill",),
    ("delete samples", ["s3", "s7"]),
    ("work", 3),
    ("ingest", ["s20", "s21"], False),
]
FIRST = [f"s{number}" for number in range(16)]


@pytest.mark.slow
def test_a_story_with_a_rebuild(empty: System, tmp_path: Path) -> None:
    check(empty, tmp_path / "store", STORY, FIRST)


@pytest.mark.slow
@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.what)
def test_the_story_notices_broken_code(planted: Breakage, empty: System, tmp_path: Path) -> None:
    with broken(planted), pytest.raises(AssertionError):
        check(empty, tmp_path / "store", STORY, FIRST)
