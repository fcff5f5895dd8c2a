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
from small_system import System, samples

from lmeraser.errors import ConfigError, FingerprintError, NotReadyError, ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import canonical_json
from lmeraser.learning.heads import Statistics
from lmeraser.proof.verify import Verification, verify
from lmeraser.state.commit import ClusterEntry
from lmeraser.state.digests import state_leaf
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import MANIFEST
from lmeraser.state.log import Log
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist
from lmeraser.store import unfenced

SystemOf = Callable[..., System]
pytestmark = pytest.mark.usefixtures("recomputed_in_a_thread")


def verified(system: System, cluster: str | None = None) -> Verification:
    return verify(system.store, system.hash_key, cluster)


def commit_again(system: System, **changes: Any) -> None:
    """Append a commit with these changes, its root made right."""
    log = Log(system.store)
    term = log.advance()[-1].term
    log.append("commit", term, replace(system.newest(), **changes).to_body())


def commit_entry(system: System, entry: ClusterEntry) -> None:
    clusters = tuple(entry if other.key == entry.key else other for other in system.newest().clusters)
    commit_again(system, clusters=clusters)


def tuned(system: System) -> ClusterEntry:
    """The cluster of most classes: rows of one class alone leave a prompt at its start."""
    entries = [entry for entry in system.newest().clusters if entry.specialist_object]
    return max(entries, key=lambda entry: (len(np.unique(rows_of(system, entry).labels_N)), entry.rows))


def specialist_of(system: System, entry: ClusterEntry) -> Specialist:
    assert entry.specialist_object is not None
    return Specialist.from_safetensors(system.store.get(entry.specialist_object), entry.specialist_object)


def rows_of(system: System, entry: ClusterEntry) -> RowTable:
    return RowTable.from_parquet(system.store.get(entry.rows_object), entry.rows_object)


def heads_of(system: System) -> HeadsState:
    name = system.newest().heads_object
    return HeadsState.from_safetensors(system.store.get(name), name)


def forge_specialist(system: System, entry: ClusterEntry, specialist: Specialist) -> None:
    name = f"specialists/{entry.key}/forged.safetensors"
    system.store.put(name, specialist.to_safetensors())
    leaf = state_leaf(system.hash_key, f"specialist/{entry.key}", specialist.digest())
    commit_entry(system, replace(entry, specialist_object=name, specialist_leaf=leaf))


def forge_rows(system: System, entry: ClusterEntry, rows: RowTable) -> None:
    name = f"rows/{entry.key}/forged.parquet"
    system.store.put(name, rows.to_parquet())
    leaf = state_leaf(system.hash_key, f"rows/{entry.key}", rows.digest())
    commit_entry(system, replace(entry, rows=len(rows), rows_object=name, rows_leaf=leaf))


def forge_heads(system: System, heads: HeadsState) -> None:
    system.store.put("heads/forged.safetensors", heads.to_safetensors())
    leaf = state_leaf(system.hash_key, "heads", heads.digest())
    commit_again(system, heads_object="heads/forged.safetensors", heads_leaf=leaf)


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
    assert said[-1][0] == "tunings" and said[-1][1] == said[-1][2] > 0
    one = verified(system, tuned(system).key)
    assert (one.equal, one.rows) == (True, tuned(system).rows)


def test_one_changed_bit_of_a_prompt_is_reported_and_other_clusters_stay_equal(system_of: SystemOf) -> None:
    system = system_of()
    entry = tuned(system)
    specialist = specialist_of(system, entry)
    forge_specialist(system, entry, replace(specialist, prompt=with_flipped_bit(specialist.prompt)))
    found = verified(system)
    assert not found.equal and found.differing == (f"specialist/{entry.key}",)
    assert found.state_root == system.newest().root != found.fresh_root
    assert verified(system, entry.key).differing == (f"specialist/{entry.key}",)
    other = next(other.key for other in system.newest().clusters if other.key != entry.key)
    assert verified(system, other).equal


def test_a_prompt_that_was_tuned_on_rows_of_others_is_reported(system_of: SystemOf) -> None:
    system = system_of()
    entry = tuned(system)
    pipeline, kept = system.pipeline(), specialist_of(system, entry)
    rows = rows_of(system, entry)
    foreign = pipeline.rows(samples(500, 504))
    more = pipeline.specialist(RowTable.concatenate([rows, foreign], rows.features_NH.shape[1]))
    assert not np.array_equal(more.prompt, kept.prompt)
    forge_specialist(system, entry, replace(kept, prompt=more.prompt))
    assert verified(system).differing == (f"specialist/{entry.key}",)
    belongs_N = ~np.isin(sorted((*rows.sample_ids, *foreign.sample_ids)), foreign.sample_ids)
    forge_specialist(system, entry, replace(kept, prompt=more.prompt, features_NH=more.features_NH[belongs_N]))
    assert verified(system).differing == (f"specialist/{entry.key}",)


def test_a_prompt_that_still_knows_an_erased_row_is_reported(system_of: SystemOf) -> None:
    system = system_of()
    entry = tuned(system)
    rows = rows_of(system, entry)
    before = specialist_of(system, entry)
    keep_N = np.arange(len(rows)) > 0
    system.delete(rows.sample_ids[0])
    after = system.newest().entry(entry.key)
    assert after is not None and verified(system).equal
    kept = Specialist(before.prompt, before.features_NH[keep_N], before.labels_N[keep_N])
    forge_specialist(system, after, kept)
    assert verified(system).differing == (f"specialist/{entry.key}",)


def test_rows_that_are_missing_only_from_the_row_file_are_reported(system_of: SystemOf) -> None:
    system = system_of()
    entry = tuned(system)
    rows = rows_of(system, entry)
    forge_rows(system, entry, rows.where(np.arange(len(rows)) > 0))
    assert {f"specialist/{entry.key}", "heads"} <= set(verified(system).differing)


@pytest.mark.parametrize("column", ["features_NH", "anchors_N"])
def test_columns_that_do_not_follow_from_the_images_are_reported(system_of: SystemOf, column: str) -> None:
    system = system_of()
    entry = tuned(system)
    rows = rows_of(system, entry)
    flipped: dict[str, Any] = {column: with_flipped_bit(getattr(rows, column))}
    forge_rows(system, entry, replace(rows, **flipped))
    assert verified(system).differing == (f"rows/{entry.key}",)


@pytest.mark.parametrize("head", ["shared", "pooled"])
def test_a_row_that_stays_only_in_the_sums_is_reported(system_of: SystemOf, head: str) -> None:
    system = system_of()
    row = system.pipeline().rows(samples(500, 501))
    heads = heads_of(system)
    sums = {"shared": heads.shared, "pooled": heads.pooled}
    sums[head] = sums[head] + Statistics.of(row.features_NH, row.labels_N, 3)
    forge_heads(system, HeadsState.of(**sums))
    assert verified(system).differing == ("heads",)


def test_a_head_that_does_not_follow_from_its_sums_is_reported(system_of: SystemOf) -> None:
    system = system_of()
    heads = heads_of(system)
    changed = replace(heads.pooled_head, bias_C=with_flipped_bit(heads.pooled_head.bias_C))
    forge_heads(system, replace(heads, pooled_head=changed))
    assert verified(system).differing == ("heads",)


@pytest.mark.parametrize("part", ["partition", "heads"])
def test_a_leaf_of_other_content_is_reported(system_of: SystemOf, part: str) -> None:
    system = system_of()
    commit_again(system, **{f"{part}_leaf": "0" * 64})
    assert verified(system).differing == (part,)


def test_a_specialist_for_a_cluster_that_is_too_small_is_reported(system_of: SystemOf) -> None:
    system = system_of()
    small = next(entry for entry in system.newest().clusters if entry.rows < 8)
    forge_specialist(system, small, system.pipeline().specialist(rows_of(system, small)))
    assert verified(system).differing == (f"specialist/{small.key}",)
    assert verified(system, small.key).differing == (f"specialist/{small.key}",)


def test_clusters_that_await_tuning_are_named(system_of: SystemOf) -> None:
    system = system_of(rows=0)
    system.ingest(samples(0, 90), tuned=False)
    found = verified(system)
    waiting = {entry.key for entry in system.newest().clusters if entry.rows >= 8}
    untuned = {entry.key for entry in system.newest().clusters if entry.specialist_object is None}
    assert set(found.awaiting) == waiting & untuned != set()
    assert set(found.differing) == {*(f"specialist/{key}" for key in found.awaiting), "heads"}
    small = next(entry.key for entry in system.newest().clusters if entry.rows < 8)
    assert verified(system, small).equal


@pytest.mark.parametrize("part", ["specialist", "heads"])
def test_a_missing_object_is_named(system_of: SystemOf, part: str) -> None:
    system = system_of()
    entry = tuned(system)
    assert entry.specialist_object is not None
    system.store.purge(entry.specialist_object if part == "specialist" else system.newest().heads_object, unfenced)
    assert verified(system).differing == (f"specialist/{entry.key}" if part == "specialist" else "heads",)


def test_a_missing_row_file_is_an_error_that_names_it(system_of: SystemOf) -> None:
    system = system_of()
    name = tuned(system).rows_object
    system.store.purge(name, unfenced)
    with pytest.raises(ObjectMissingError, match=name):
        verified(system)


def test_raw_bytes_that_flip_in_rows_heads_and_specialists_are_reported(system_of: SystemOf) -> None:
    system = system_of()
    entry = tuned(system)
    assert entry.specialist_object is not None
    features_H = rows_of(system, entry).features_NH[0].astype(np.int32)
    flip(system, entry.rows_object, system.store.get(entry.rows_object).index(features_H.tobytes()))
    for name in (entry.specialist_object, system.newest().heads_object):
        flip(system, name, len(system.store.get(name)) - 8)
    assert verified(system).differing == ("heads", f"rows/{entry.key}", f"specialist/{entry.key}")


@pytest.mark.parametrize("part", ["backbone", "partition", "features"])
def test_a_public_artifact_with_a_flipped_byte_is_refused_by_name(system_of: SystemOf, part: str) -> None:
    system = system_of()
    name = system.manifest.public[part]
    flip(system, name, len(system.store.get(name)) - 1)
    with pytest.raises(ObjectCorruptError, match=name):
        verified(system)


def test_an_image_that_no_longer_decodes_is_told_with_its_file_and_row(system_of: SystemOf) -> None:
    system = system_of()
    entry = tuned(system)
    image = rows_of(system, entry).images[0]
    flip(system, entry.rows_object, system.store.get(entry.rows_object).index(image) + len(image) // 2)
    with pytest.raises(ObjectCorruptError, match=rf"{entry.rows_object}.*{rows_of(system, entry).sample_ids[0]}"):
        verified(system)


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
