"""Verification against an operator who forges the commit too: the contents of the store agree with its log.

Then only the recomputation can tell. Rows are recomputed in a thread here; worker processes take long to start.

Legend: N rows, H head features, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from forged_commits import commit_again, commit_cluster, commit_entry, commit_heads, with_prompt, with_segments
from small_system import System, samples
from stored_rows import prompt_of, rows_of, specialist_of

from lmeraser.errors import (
    ConfigError,
    FingerprintError,
    LogError,
    NotReadyError,
    ObjectCorruptError,
    ObjectMissingError,
)
from lmeraser.hashing import canonical_json
from lmeraser.learning.heads import Statistics
from lmeraser.proof.verify import Verification, verify
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import MANIFEST
from lmeraser.state.log import Log
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist
from lmeraser.state.stored_objects import read_heads_state
from lmeraser.store import unfenced

SystemOf = Callable[..., System]
pytestmark = pytest.mark.usefixtures("recomputed_in_a_thread")


def verified(system: System, cluster: str | None = None) -> Verification:
    return verify(system.store, system.hash_key, cluster)


def tuned(system: System) -> ClusterEntry:
    """The cluster of most classes: rows of one class alone leave a prompt at its start."""
    entries = [entry for entry in system.newest().clusters if entry.prompted_leaf is not None]
    return max(entries, key=lambda entry: (len(np.unique(rows_of(system.store, entry).labels_N)), entry.rows))


def heads_of(system: System) -> HeadsState:
    return read_heads_state(system.store, system.hash_key, system.newest())


def flip(system: System, name: str, at: int) -> None:
    data = bytearray(system.store.get(name))
    data[at] ^= 1
    system.store.put(name, bytes(data))


def with_flipped_bit(array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed.view(np.uint8).reshape(-1)[0] ^= 1
    return changed


@pytest.mark.parametrize("variant", ["token", "pad"])
def test_an_honest_store_is_equal_whole_and_by_cluster(system_of: SystemOf, variant: str) -> None:
    system = system_of(variant)
    system.delete("s3", "s40")
    commit_again(system)
    said: list[tuple[str, int, int]] = []
    whole = verify(system.store, system.hash_key, report=lambda *step: said.append(step))
    assert (whole.equal, whole.differing, whole.awaiting, whole.rows) == (True, (), (), 88)
    assert whole.state_root == whole.fresh_root == system.newest().root
    assert said[-1][0] == "embeddings" and said[-1][1] == said[-1][2] > 0
    one = verified(system, tuned(system).key)
    assert (one.equal, one.rows) == (True, tuned(system).rows)


def test_one_changed_bit_of_a_prompt_is_reported_and_other_clusters_stay_equal(system_of: SystemOf) -> None:
    system = system_of()
    entry = tuned(system)
    commit_entry(system, with_prompt(system, entry, with_flipped_bit(prompt_of(system.store, entry))))
    found = verified(system)
    assert not found.equal and found.differing == (f"prompt/{entry.key}",)
    assert found.state_root == system.newest().root != found.fresh_root
    assert verified(system, entry.key).differing == (f"prompt/{entry.key}",)
    other = next(other.key for other in system.newest().clusters if other.key != entry.key)
    assert verified(system, other).equal


def test_one_changed_bit_of_prompted_features_is_reported(system_of: SystemOf) -> None:
    system = system_of()
    entry = tuned(system)
    kept = specialist_of(system.store, entry)
    changed = replace(kept, features_NH=with_flipped_bit(kept.features_NH))
    commit_cluster(system, entry, rows_of(system.store, entry), changed)
    assert verified(system).differing == verified(system, entry.key).differing == (f"prompted/{entry.key}",)


def test_a_prompt_that_was_tuned_on_rows_of_others_is_reported(system_of: SystemOf) -> None:
    system = system_of()
    entry = tuned(system)
    pipeline, kept = system.pipeline(), specialist_of(system.store, entry)
    rows = rows_of(system.store, entry)
    foreign = pipeline.rows(samples(500, 504))
    more = pipeline.specialist(RowTable.concatenate([rows, foreign], rows.features_NH.shape[1]))
    assert not np.array_equal(more.prompt, kept.prompt)
    commit_cluster(system, entry, rows, replace(kept, prompt=more.prompt))
    assert verified(system).differing == (f"prompt/{entry.key}",)
    belongs_N = ~np.isin(sorted((*rows.sample_ids, *foreign.sample_ids)), foreign.sample_ids)
    commit_cluster(system, entry, rows, replace(kept, prompt=more.prompt, features_NH=more.features_NH[belongs_N]))
    assert verified(system).differing == (f"prompt/{entry.key}", f"prompted/{entry.key}")


def test_a_prompt_that_still_knows_an_erased_row_is_reported(system_of: SystemOf) -> None:
    system = system_of()
    entry = tuned(system)
    rows = rows_of(system.store, entry)
    before = specialist_of(system.store, entry)
    keep_N = np.arange(len(rows)) > 0
    system.delete(rows.sample_ids[0])
    after = system.newest().entry(entry.key)
    assert after is not None and verified(system).equal
    kept = Specialist(before.prompt, before.features_NH[keep_N], before.labels_N[keep_N])
    commit_cluster(system, after, rows.where(keep_N), kept)
    assert verified(system).differing == (f"prompt/{entry.key}", f"prompted/{entry.key}")


def test_a_prompt_that_was_tuned_on_all_rows_instead_of_the_coreset_is_reported(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    entry = max(system.newest().clusters, key=lambda entry: entry.rows)
    rows, pipeline = rows_of(system.store, entry), system.pipeline()
    prompt = pipeline.tuned_prompt(rows)
    assert len(pipeline.coreset(rows)) < len(rows)
    commit_cluster(system, entry, rows, Specialist(prompt, pipeline.embedded(rows.images, prompt), rows.labels_N))
    assert f"prompt/{entry.key}" in verified(system).differing


def test_rows_that_are_missing_only_from_the_row_file_are_reported(system_of: SystemOf) -> None:
    system = system_of()
    entry = tuned(system)
    rows, kept = rows_of(system.store, entry), specialist_of(system.store, entry)
    keep_N = np.arange(len(rows)) > 0
    commit_cluster(system, entry, rows.where(keep_N), replace(kept, features_NH=kept.features_NH[keep_N]))
    assert {f"prompt/{entry.key}", f"prompted/{entry.key}", "heads"} <= set(verified(system).differing)


@pytest.mark.parametrize("column", ["features_NH", "anchors_N"])
def test_columns_that_do_not_follow_from_the_images_are_reported(system_of: SystemOf, column: str) -> None:
    system = system_of()
    entry = tuned(system)
    rows = rows_of(system.store, entry)
    flipped: dict[str, Any] = {column: with_flipped_bit(getattr(rows, column))}
    commit_cluster(system, entry, replace(rows, **flipped), specialist_of(system.store, entry))
    # Prompted features are those of rows, which they name by their digests.
    assert verified(system).differing == (f"prompted/{entry.key}", f"rows/{entry.key}")


@pytest.mark.parametrize("head", ["shared", "pooled"])
def test_a_row_that_stays_only_in_the_sums_is_reported(system_of: SystemOf, head: str) -> None:
    system = system_of()
    row = system.pipeline().rows(samples(500, 501))
    heads = heads_of(system)
    sums = {"shared": heads.sums.shared, "pooled": heads.sums.pooled}
    sums[head] = sums[head] + Statistics.of(row.features_NH, row.labels_N, 3)
    commit_heads(system, HeadsState.of(**sums))
    assert verified(system).differing == ("heads", "sums")


def test_a_head_that_does_not_follow_from_its_sums_is_reported(system_of: SystemOf) -> None:
    system = system_of()
    heads = heads_of(system)
    changed = replace(heads.solved.pooled, bias_C=with_flipped_bit(heads.solved.pooled.bias_C))
    commit_heads(system, replace(heads, solved=replace(heads.solved, pooled=changed)))
    assert verified(system).differing == ("heads",)


def test_a_leaf_of_other_content_is_reported(system_of: SystemOf) -> None:
    system = system_of()
    commit_again(system, heads=replace(system.newest().heads, heads_leaf="0" * 64))
    assert verified(system).differing == ("heads",)


def test_a_cluster_whose_key_is_not_that_of_its_region_is_refused(system_of: SystemOf) -> None:
    system = system_of()
    entry = system.newest().clusters[0]
    commit_entry(system, replace(entry, anchors=(*entry.anchors, 77)))
    with pytest.raises(LogError, match=f"the key {entry.key} is not that of its anchors and bits"):
        verified(system)


def test_a_specialist_for_a_cluster_that_is_too_small_is_reported(system_of: SystemOf) -> None:
    system = system_of()
    small = next(entry for entry in system.newest().clusters if entry.rows < 8)
    rows = rows_of(system.store, small)
    commit_cluster(system, small, rows, system.pipeline().specialist(rows))
    expected = (f"prompt/{small.key}", f"prompted/{small.key}")
    assert verified(system).differing == verified(system, small.key).differing == expected


def test_clusters_that_await_tuning_are_named(system_of: SystemOf) -> None:
    system = system_of(rows=0)
    system.ingest(samples(0, 90), tuned=False)
    found = verified(system)
    waiting = {entry.key for entry in system.newest().clusters if entry.rows >= 8}
    untuned = {entry.key for entry in system.newest().clusters if entry.prompt_object is None}
    assert set(found.awaiting) == waiting & untuned != set()
    parts = {f"{part}/{key}" for key in found.awaiting for part in ("prompt", "prompted")}
    assert set(found.differing) == parts | {"heads", "sums"}
    small = next(entry.key for entry in system.newest().clusters if entry.rows < 8)
    assert verified(system, small).equal


def test_a_cluster_with_a_prompt_whose_rows_are_not_embedded_awaits_tuning(system_of: SystemOf) -> None:
    system = system_of()
    entry = tuned(system)
    commit_entry(system, with_segments(system, entry, [(rows_of(system.store, entry), None)]))
    found = verified(system)
    assert (found.awaiting, found.differing) == ((entry.key,), (f"prompted/{entry.key}",))


@pytest.mark.parametrize("part", ["prompt", "prompted", "heads", "sums"])
def test_a_missing_object_is_named(system_of: SystemOf, part: str) -> None:
    system = system_of()
    entry = tuned(system)
    names = {
        "prompt": entry.prompt_object,
        "prompted": entry.segments[0].prompted_object,
        "heads": system.newest().heads.heads_object,
        "sums": system.newest().heads.sums_object,
    }
    system.store.purge(str(names[part]), unfenced)
    verification = verified(system)
    assert (verification.equal, verification.differing) == (False, ())
    assert list(verification.damaged) == [part if part in ("heads", "sums") else f"{part}/{entry.key}"]
    assert str(names[part]) in "".join(verification.damaged.values())


def test_a_missing_row_file_is_an_error_that_names_it(system_of: SystemOf) -> None:
    system = system_of()
    name = tuned(system).segments[0].rows_object
    system.store.purge(name, unfenced)
    with pytest.raises(ObjectMissingError, match=name):
        verified(system)


@pytest.mark.parametrize("part", ["backbone", "partition", "features"])
def test_a_public_artifact_with_a_flipped_byte_is_refused_by_name(system_of: SystemOf, part: str) -> None:
    system = system_of()
    name = system.manifest.public[part]
    flip(system, name, len(system.store.get(name)) - 1)
    with pytest.raises(ObjectCorruptError, match=name):
        verified(system)


def test_an_image_that_no_longer_decodes_is_told_with_its_file_and_row(system_of: SystemOf) -> None:
    system = system_of()
    rows, name = rows_of(system.store, tuned(system)), tuned(system).segments[0].rows_object
    image = rows.images[0]
    flip(system, name, system.store.get(name).index(image) + len(image) // 2)
    with pytest.raises(ObjectCorruptError, match=rf"{name}.*{rows.sample_ids[0]}") as caught:
        verified(system)
    # An option of another command.
    assert "--skip-bad" not in str(caught.value)


def test_a_store_that_was_created_elsewhere_is_refused_and_says_how_it_differs(system_of: SystemOf) -> None:
    system = system_of()
    value = json.loads(system.store.get(MANIFEST))
    value["fingerprint"]["torch"] = "1.0"
    system.store.put(MANIFEST, canonical_json(value))
    commit_again(system, fixed_leaves=system.manifest.leaves(system.hash_key))
    with pytest.raises(FingerprintError, match=r"torch.*'1\.0' in the store"):
        verified(system)


def test_a_store_without_a_commit_is_not_ready_whatever_else_its_log_holds(system_of: SystemOf) -> None:
    system = system_of(rows=0)
    system.coordinator()
    assert [record.kind for record in Log(system.store).advance()] == ["term"]
    with pytest.raises(NotReadyError, match="ingest"):
        verified(system)


def test_an_unknown_cluster_is_refused_and_existing_ones_are_named(system_of: SystemOf) -> None:
    system = system_of()
    with pytest.raises(ConfigError, match=rf"'nowhere'.*{system.newest().clusters[0].key}"):
        verified(system, "nowhere")
