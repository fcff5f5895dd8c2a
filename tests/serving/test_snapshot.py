"""A snapshot that follows another one is the snapshot of its commit, and reads only what the commit changed.

Legend: K specialists.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_system import System, samples

from lmeraser.hashing import HashKey
from lmeraser.state.commit import Commit, commits_in
from lmeraser.state.log import Log
from lmeraser.state.pipeline import Pipeline
from lmeraser.store import LocalStore
from serving.snapshot import Snapshot, load_snapshot

SystemOf = Callable[..., System]


class RecordingStore(LocalStore):
    """Names the prompts and heads that were read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: list[str] = []

    def get(self, name: str) -> bytes:
        if name.startswith(("prompts/", "heads/")):
            self.read.append(name)
        return super().get(name)


class Follower:
    """Loads each newer commit on top of the snapshot before it."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.store = RecordingStore(Path(system.store.uri))
        self.pipeline: Pipeline = system.pipeline()
        self.hash_key: HashKey = system.hash_key
        self.log = Log(system.store)
        self.commits: list[Commit] = commits_in(self.log.advance())
        self.snapshot = self.load(self.commits[-1], None)

    def load(self, commit: Commit, previous: Snapshot | None) -> Snapshot:
        self.store.read.clear()
        return load_snapshot(self.store, self.pipeline, commit, self.hash_key, previous)

    def newer(self) -> list[Commit]:
        """The commits since the last call."""
        commits = commits_in(self.log.advance(), self.commits[-1])
        self.commits += commits
        return commits


def by_cluster(snapshot: Snapshot) -> dict[str, bytes]:
    """The prompt of each cluster that an anchor leads to, and of those without one nothing."""
    prompts = {}
    for cluster, specialist in zip(snapshot.routes.cluster_A, snapshot.routes.specialist_A, strict=True):
        if cluster >= 0:
            prompt = snapshot.prompts_K[int(specialist)].cpu().numpy().tobytes() if specialist >= 0 else b""
            prompts[snapshot.commit.clusters[cluster].key] = prompt
    return prompts


def assert_is_fresh(follower: Follower, snapshot: Snapshot) -> None:
    """It is as if nothing had come before it. Follows after a commit whose objects are still there."""
    fresh = load_snapshot(follower.system.store, follower.pipeline, snapshot.commit, follower.hash_key)
    assert by_cluster(snapshot) == by_cluster(fresh)
    assert set(snapshot.prompt_objects) == set(fresh.prompt_objects)
    assert len(snapshot.prompts_K) == len(snapshot.prompt_objects)
    assert snapshot.routes.cluster_A.tolist() == fresh.routes.cluster_A.tolist()
    assert snapshot.shared_head.weight_HC.tobytes() == fresh.shared_head.weight_HC.tobytes()
    assert snapshot.pooled_head.weight_HC.tobytes() == fresh.pooled_head.weight_HC.tobytes()


def test_only_what_a_commit_changed_is_read_and_the_previous_snapshot_stays_as_it_is(system_of: SystemOf) -> None:
    system = system_of()
    follower = Follower(system)
    first = follower.snapshot
    before_K = first.prompts_K.clone()
    answers_before = by_cluster(first)
    # The first commit leaves a cluster without its prompt, and a later one has it tuned again.
    system.delete("s3")
    assert follower.newer()[0].requests
    last = follower.load(follower.commits[-1], first)
    new = [name for name in follower.store.read if name.startswith("prompts/")]
    assert set(new) == set(last.prompt_objects) - set(first.prompt_objects)
    assert 0 < len(new) < len(last.prompt_objects)
    assert_is_fresh(follower, last)
    assert torch.equal(first.prompts_K, before_K) and by_cluster(first) == answers_before
    # A prompt that was tuned on an erased row is not in the new tensor.
    gone = [
        first.prompts_K[first.prompt_objects.index(n)] for n in set(first.prompt_objects) - set(last.prompt_objects)
    ]
    assert gone
    assert not any(torch.equal(prompt, other) for prompt in gone for other in last.prompts_K)


@pytest.mark.slow
def test_with_many_changes_in_turn_every_snapshot_is_that_of_its_commit(system_of: SystemOf) -> None:
    system = system_of("coreset", 60)
    follower = Follower(system)
    snapshot = follower.snapshot
    for number in range(4):
        system.delete(f"s{5 * number}", f"s{5 * number + 1}")
        system.ingest(samples(100 + 10 * number, 110 + 10 * number))
        follower.newer()
        snapshot = follower.load(follower.commits[-1], snapshot)
        assert_is_fresh(follower, snapshot)


def test_where_no_prompt_changed_the_tensor_is_shared_and_where_no_head_did_the_heads_are(system_of: SystemOf) -> None:
    system = system_of()
    follower = Follower(system)
    first = follower.snapshot
    # Sums are for coordinators.
    assert not any(".sums" in name for name in follower.store.read)
    # A commit that changes one cluster's rows but neither prompts nor heads.
    entry = first.commit.clusters[0]
    commit = replace(first.commit.changed([replace(entry, rows=entry.rows + 1)]), number=first.commit.number + 1)
    following = follower.load(commit, first)
    assert follower.store.read == []
    assert following.prompts_K is first.prompts_K
    assert following.shared_head is first.shared_head and following.pooled_head is first.pooled_head
    assert following.routes.clusters == commit.clusters


def test_a_prompt_that_was_missing_is_read_again_with_the_next_commit(system_of: SystemOf) -> None:
    system = system_of()
    commit = system.newest()
    entry = next(entry for entry in commit.clusters if entry.prompt_object is not None)
    assert entry.prompt_object is not None
    path = Path(system.store.uri) / entry.prompt_object
    path.rename(path.with_suffix(".away"))
    follower = Follower(system)
    assert entry.prompt_object not in follower.snapshot.prompt_objects
    assert by_cluster(follower.snapshot)[entry.key] == b""
    path.with_suffix(".away").rename(path)
    # It has the same entries, each the same object.
    following = follower.load(replace(commit, number=commit.number + 1), follower.snapshot)
    assert follower.store.read == [entry.prompt_object]
    assert_is_fresh(follower, following)
    assert by_cluster(following)[entry.key] != b""


def test_unchanged_entries_are_the_same_objects_in_consecutive_commits(system_of: SystemOf) -> None:
    system = system_of()
    follower = Follower(system)
    before = follower.commits[-1]
    system.delete("s3")
    for commit in follower.newer():
        changed = [entry for entry in commit.clusters if before.entry(entry.key) is not entry]
        assert len(changed) < len(commit.clusters)
        assert all(entry != before.entry(entry.key) for entry in changed)
        before = commit


def test_an_empty_snapshot_can_be_followed(system_of: SystemOf) -> None:
    system = system_of("coarse", 24)
    follower = Follower(system)
    assert follower.snapshot.prompts_K.shape[0] == 0
    system.delete("s1")
    follower.newer()
    following = follower.load(follower.commits[-1], follower.snapshot)
    assert following.prompts_K is follower.snapshot.prompts_K
    assert np.array_equal(following.routes.specialist_A, np.full(len(following.routes.specialist_A), -1))
