"""The heads and the sums that commits write."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from small_system import System, finish, samples
from stored_rows import rows_of

from lmeraser.deletion import DeletionRequest
from lmeraser.state.commit import commits_in
from lmeraser.state.log import Log
from lmeraser.state.stored_objects import read_heads_state

SystemOf = Callable[..., System]
both = pytest.mark.parametrize("medium", ["folder", pytest.param("s3", marks=pytest.mark.slow)])


@both
def test_a_class_can_lose_every_row_and_keeps_its_place_in_the_head(system_of: SystemOf) -> None:
    system = system_of()
    system.delete(*(row.sample_id for row in samples(0, 90) if row.label == 1))
    remaining = [row for row in samples(0, 90) if row.label != 1]
    assert system.newest().root == system.fresh_root(remaining)
    heads = read_heads_state(system.store, system.hash_key, system.newest())
    assert heads.solved.shared.bias_C.shape == (3,)
    assert heads.sums.shared.counts_C[1] == 0


def test_a_commit_writes_heads_and_sums_only_if_they_changed(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    entry = next(entry for entry in system.newest().clusters if entry.prompt_object is not None)
    # The coreset's row has the cluster tuned again: a commit for its prompt, and then one for the features.
    coreset = system.pipeline().coreset(rows_of(system.store, entry))
    for name in ("nobody", coreset.sample_ids[0]):
        coordinator.delete(DeletionRequest((name,)))
        finish(coordinator)
    stored = [commit.heads for commit in commits_in(Log(system.store).advance())][-5:]
    same = [
        (before.heads_object == after.heads_object, before.sums_object == after.sums_object)
        for before, after in pairwise(stored)
    ]
    assert same == [(True, True), (False, False), (True, True), (False, False)]
