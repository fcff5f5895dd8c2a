"""Deletions that are faked, each in one way, in a copy of a store: an audit must catch every one.

The faker has all keys: it writes commits whose roots follow, a log that holds, and receipts with a good signature. One
row is deleted as the service would, but for one lie.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lmeraser.audit.evidence import Evidence, read_evidence
from lmeraser.data import Sample
from lmeraser.errors import NotReadyError
from lmeraser.hashing import HashKey, canonical_json, draw
from lmeraser.learning.heads import Statistics
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.partition import Partition
from lmeraser.learning.tuning import TuningRows, tune_prompt
from lmeraser.proof.receipts import Coverage, sample_hash, sides, sign, statement
from lmeraser.state.commit import ClusterEntry, Commit, Erasure
from lmeraser.state.digests import json_digest, state_leaf
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import (
    DATA_FOLDERS,
    HEADS_PART,
    PARTITION_PART,
    new_heads_object,
    new_receipt_object,
    new_rows_object,
    new_specialist_object,
    rows_part,
    specialist_part,
)
from lmeraser.state.log import Log
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist
from lmeraser.state.stored_objects import read_heads, read_rows_of, read_specialist
from lmeraser.store import LocalStore, Store, unfenced

Way = Literal[
    "no lie",
    "row kept in the head statistics only",
    "old prompt served",
    "row kept in another cluster's file",
    "prompt fine-tuned instead of tuned again",
    "request recorded but rows kept",
]
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True)
class Scenario:
    """A row whose deletion is faked, and what an honest deletion of it gives.

    Attributes:
        evidence, method: the store.
        entry: the row's cluster.
        table, kept: the cluster's rows with and without it.
        row: the row alone.
        old, new: the cluster's specialist before and after.
        heads: before.
        partition: without the row.
        other: another cluster.
    """

    evidence: Evidence
    pipeline: Pipeline
    entry: ClusterEntry
    table: RowTable
    kept: RowTable
    row: RowTable
    old: Specialist
    new: Specialist
    heads: HeadsState
    partition: Partition
    other: ClusterEntry

    @property
    def sample(self) -> Sample:
        """The row as it came."""
        row = self.row
        return Sample(row.sample_ids[0], row.subject_ids[0], int(row.labels_N[0]), row.images[0])


def set_scene(evidence: Evidence, pipeline: Pipeline) -> Scenario:
    """Choose a row of a tuned cluster, a touched one where there is one, whose deletion leaves all other clusters be.

    Raises:
        NotReadyError: when there is none.
        ObjectMissingError, ObjectCorruptError: when an object is not what the commit names.
    """
    store, key = evidence.store, evidence.hash_key
    tables = {entry.key: read_rows_of(store, key, entry) for entry in evidence.commit.clusters}
    touched = {entry.key for entry in evidence.touched()}
    for entry in sorted(evidence.commit.clusters, key=lambda entry: (entry.key not in touched, -entry.rows)):
        others = [other for other in evidence.commit.clusters if other.key != entry.key]
        if entry.specialist_object is None or not pipeline.config.tunes(entry.rows - 1) or not others:
            continue
        for chosen, partition in _removable(pipeline, tables, entry):
            table = tables[entry.key]
            mine_N = np.array([name == chosen for name in table.sample_ids])
            kept = table.where(~mine_N)
            return Scenario(
                evidence=evidence,
                pipeline=pipeline,
                entry=entry,
                table=table,
                kept=kept,
                row=table.where(mine_N),
                old=read_specialist(store, key, entry.key, entry.specialist_object, entry.specialist_leaf),
                new=pipeline.specialist(kept),
                heads=read_heads(store, key, evidence.commit),
                partition=partition,
                other=max(others, key=lambda other: other.rows),
            )
    raise NotReadyError("no row of a tuned cluster can be deleted without changing the partition: nothing can be faked")


def fake(scene: Scenario, way: Way, folder: Path) -> Evidence:
    """Copy the store into the folder, delete the scene's row there, and lie in this way."""
    evidence = scene.evidence
    store = LocalStore(folder)
    for name in evidence.store.names():
        store.put(name, evidence.store.get(name))
    commit = _committed(scene, way, store)
    signing_key = Ed25519PrivateKey.generate()
    request_id = _recorded(scene, commit, store, signing_key)
    newest = read_evidence(store, evidence.manifest, evidence.hash_key, signing_key.public_key(), [request_id])
    named = newest.commit.objects()
    for prefix in DATA_FOLDERS:
        for name in store.names(prefix):
            if name not in named:
                store.purge(name, unfenced)
    return newest


def _committed(scene: Scenario, way: Way, store: Store) -> Commit:
    """The objects of the fake, and the commit that names them."""
    evidence, commit = scene.evidence, scene.evidence.commit
    if way == "request recorded but rows kept":
        return commit
    specialist = scene.new
    if way == "old prompt served":
        # As a service would that forgot to tune again: the old prompt, and what it makes of the rows that are left.
        specialist = _with_prompt(scene, torch.from_numpy(scene.old.prompt))
    elif way == "prompt fine-tuned instead of tuned again":
        specialist = _with_prompt(scene, _fine_tuned(scene))
    with deterministic():
        shared, pooled = scene.heads.shared, scene.heads.pooled
        if way != "row kept in the head statistics only":
            shared = shared - Statistics.of_all([scene.row], shared)
        pooled = pooled - Statistics.of_all([scene.old], pooled) + Statistics.of_all([specialist], pooled)
        heads = HeadsState.of(shared, pooled)
    changed = {scene.entry.key: _put_cluster(evidence.hash_key, store, scene.entry, scene.kept, specialist)}
    if way == "row kept in another cluster's file":
        other = read_rows_of(evidence.store, evidence.hash_key, scene.other)
        more = RowTable.concatenate([other, scene.row], scene.pipeline.feature_map.width)
        changed[scene.other.key] = _put_cluster(evidence.hash_key, store, scene.other, more, None)
    heads_object = new_heads_object()
    store.put(heads_object, heads.to_safetensors())
    return replace(
        commit,
        clusters=tuple(changed.get(entry.key, entry) for entry in commit.clusters),
        heads_object=heads_object,
        heads_leaf=state_leaf(evidence.hash_key, HEADS_PART, heads.digest()),
        partition_leaf=state_leaf(evidence.hash_key, PARTITION_PART, json_digest(scene.partition.canonical())),
    )


def _recorded(scene: Scenario, commit: Commit, store: Store, signing_key: Ed25519PrivateKey) -> str:
    """The log and the receipt of a deletion that is completed; its id."""
    evidence = scene.evidence
    log = Log(store)
    term = log.advance()[-1].term
    request_id = uuid.uuid4().hex
    samples = [sample_hash(evidence.hash_key, scene.sample.sample_id)]
    none: dict[str, Any] = {"subjects": [], "unknown_samples": [], "unknown_subjects": []}
    empty: dict[str, Any] = {**none, "idempotency": None, "body": "", "deadline": None}
    request = log.append("request", term, {"id": request_id, "samples": samples, **empty})
    erasure = Erasure(request_id, (scene.entry.key,), rows=1)
    record = log.append("commit", term, replace(commit, erasures=(erasure,)).to_body())
    after = Commit.from_record(record)
    coverage = Coverage.of(request.body, erasure)
    name = new_receipt_object(request_id)
    said = {"id": request_id, "clusters": list(erasure.clusters), "rows": coverage.rows, "unknown": 0, "receipt": name}
    log.append("erased", term, said)
    log.append("completed", term, {"id": request_id, "receipt": name})
    now = log.now()
    changed = sides(evidence.commit, after, erasure.clusters)
    body = statement(evidence.manifest, evidence.hash_key, request_id, coverage, (request.at, now), changed)
    body |= {"completed_at": now, "completed": {"log": after.number, "root": after.root}}
    store.put(name, canonical_json(sign(body, signing_key)))
    return request_id


def _removable(pipeline: Pipeline, tables: dict[str, RowTable], entry: ClusterEntry) -> Iterator[tuple[str, Partition]]:
    """Rows of the cluster without which the partition has the same clusters, each with that partition."""
    seed = pipeline.config.seed
    together = RowTable.concatenate(tables.values(), pipeline.feature_map.width)
    bits_N = together.bits(seed)
    for name in sorted(tables[entry.key].sample_ids, key=lambda name: draw(seed, "fake", name)):
        keep_N = np.array([other != name for other in together.sample_ids])
        with deterministic():
            partition = pipeline.partition(together.anchors_N[keep_N], bits_N[keep_N])
        if {cluster.key for cluster in partition.clusters} == set(tables):
            yield name, partition


def _with_prompt(scene: Scenario, prompt: torch.Tensor) -> Specialist:
    features_NH = scene.pipeline.prompted(scene.pipeline.decode(scene.kept.images), prompt)
    return Specialist(prompt.numpy(), features_NH, scene.kept.labels_N)


def _fine_tuned(scene: Scenario) -> torch.Tensor:
    """The old prompt after one more pass over the rows that are left."""
    pipeline, kept = scene.pipeline, scene.kept
    config = replace(pipeline.config, tuning=replace(pipeline.config.tuning, epochs=1))
    rows = TuningRows(kept.sample_ids, pipeline.decode(kept.images), kept.labels_N)
    start = torch.from_numpy(scene.old.prompt)
    return tune_prompt(pipeline.backbone, config, rows, start=start, feature_map=pipeline.feature_map)


def _put_cluster(
    hash_key: HashKey, store: Store, entry: ClusterEntry, rows: RowTable, specialist: Specialist | None
) -> ClusterEntry:
    """Write a cluster's objects; its specialist stays where none is given."""
    name = new_rows_object(entry.key)
    store.put(name, rows.to_parquet())
    leaf = state_leaf(hash_key, rows_part(entry.key), rows.digest())
    entry = replace(entry, rows=len(rows), rows_object=name, rows_leaf=leaf)
    if specialist is None:
        return entry
    name = new_specialist_object(entry.key)
    store.put(name, specialist.to_safetensors())
    leaf = state_leaf(hash_key, specialist_part(entry.key), specialist.digest())
    return replace(entry, specialist_object=name, specialist_leaf=leaf)
