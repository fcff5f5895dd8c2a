"""Verification compares what the store contains with what the remaining rows give, and names what differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from small_system import System, samples
from stored_rows import prompt_of, rows_of

from lmeraser.errors import ConfigError, KeysError, NotReadyError, ObjectCorruptError
from lmeraser.hashing import HashKey
from lmeraser.learning.heads import Statistics
from lmeraser.proof.verify import Verification, verify
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.heads_state import Sums
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Prompt

SystemOf = Callable[..., System]


def tuned(system: System) -> ClusterEntry:
    return max(
        (entry for entry in system.newest().clusters if entry.prompted_leaf is not None),
        key=lambda entry: entry.rows,
    )


def put(system: System, name: str | None, data: bytes) -> None:
    assert name is not None
    system.store.put(name, data)


def verified(system: System, cluster: str | None = None) -> Verification:
    return verify(system.store, system.hash_key, cluster)


@pytest.mark.slow
@pytest.mark.parametrize("medium", ["folder", "s3"])
def test_an_untouched_store_is_equal_as_a_whole_and_by_cluster(system_of: SystemOf) -> None:
    system = system_of()
    whole = verify(system.store, system.hash_key, processes=2)
    assert whole == verified(system)
    assert whole.equal and whole.state_root == whole.fresh_root == system.newest().root
    assert (whole.rows, whole.differing, whole.awaiting) == (90, (), ())
    one = verified(system, tuned(system).key)
    assert one.equal and one.rows == tuned(system).rows


@pytest.mark.slow
def test_one_changed_bit_of_one_prompt_is_caught(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    entry = tuned(system)
    bits = prompt_of(system.store, entry).copy().view(np.uint32)
    bits.flat[0] ^= 1
    put(system, entry.prompt_object, Prompt(bits.view(np.float32)).to_safetensors())
    found = verified(system)
    assert not found.equal
    assert found.differing == (f"prompt/{entry.key}",)
    assert not verified(system, entry.key).equal


@pytest.mark.slow
def test_a_prompt_that_was_tuned_with_rows_of_others_is_caught(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    entry = tuned(system)
    rows = rows_of(system.store, entry)
    pipeline = system.pipeline()
    foreign = pipeline.rows(samples(50, 56))
    planted = pipeline.tuned_prompt(RowTable.concatenate([rows, foreign], rows.features_NH.shape[1]))
    # Only the prompt gives the rows away: the prompted features are those of the rows that should be there.
    put(system, entry.prompt_object, Prompt(planted).to_safetensors())
    assert verified(system).differing == (f"prompt/{entry.key}",)


@pytest.mark.slow
def test_a_row_that_stays_in_the_sums_only_is_caught(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    commit = system.newest()
    sums = Sums.from_safetensors(system.store.get(commit.heads.sums_object), commit.heads.sums_object)
    kept = system.pipeline().rows(samples(50, 51))
    shared = sums.shared + Statistics.of(kept.features_NH, kept.labels_N, 3)
    put(system, commit.heads.sums_object, replace(sums, shared=shared).to_safetensors())
    assert verified(system).differing == ("sums",)


@pytest.mark.slow
def test_an_unreadable_row_file_is_an_error_that_names_it_and_not_equality(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    name = system.newest().clusters[0].segments[0].rows_object
    put(system, name, system.store.get(name)[:-5])
    with pytest.raises(ObjectCorruptError, match=name):
        verified(system)


def test_invalid_questions_are_refused(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    with pytest.raises(ConfigError, match="nowhere"):
        verified(system, "nowhere")
    with pytest.raises(KeysError):
        verify(system.store, HashKey(b"0" * 32))
    with pytest.raises(NotReadyError):
        verified(system_of("minute", 0))
