"""Deletions that are faked in a copy of a store, each in one way: an audit must catch every one.

Whoever fakes them has all keys: the commits' roots follow from their leaves, the log's chain is valid, and so are the
receipts' signatures. One row is deleted as the service would delete it, except in one respect.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

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
from lmeraser.state.record_bodies import CompletedBody, ErasedBody, RequestBody
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist
from lmeraser.state.stored_objects import read_heads, read_rows_of, read_specialist
from lmeraser.store import LocalStore, Store, unfenced

Tampering = Literal[
    "honest",
    "row kept in the head statistics only",
    "old prompt served",
    "row kept in another cluster's file",
    "prompt fine-tuned instead of tuned again",
    "request recorded but rows kept",
]
TAMPERINGS: tuple[Tampering, ...] = get_args(Tampering)


@dataclass(frozen=True)
class Scenario:
    """A row whose deletion is faked, and the outcome of an honest deletion of it.

    Attributes:
        evidence, pipeline: of the store.
        entry: the row's cluster.
        table, kept: the cluster's rows with and without the row.
        row: the row alone.
        old, new: the cluster's specialist before and after.
        heads: before the deletion.
        partition: after it.
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
        """The row as it was ingested."""
        row = self.row
        return Sample(row.sample_ids[0], row.subject_ids[0], int(row.labels_N[0]), row.images[0])


def choose_scenario(evidence: Evidence, pipeline: Pipeline) -> Scenario:
    """Choose a row whose deletion changes no other cluster, of a tuned cluster; of a touched one if there is any.

    Raises:
        NotReadyError: when there is no such row.
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
            chosen_N = np.array([name == chosen for name in table.sample_ids])
            kept = table.where(~chosen_N)
            return Scenario(
                evidence=evidence,
                pipeline=pipeline,
                entry=entry,
                table=table,
                kept=kept,
                row=table.where(chosen_N),
                old=read_specialist(store, key, entry.key, entry.specialist_object, entry.specialist_leaf),
                new=pipeline.specialist(kept),
                heads=read_heads(store, key, evidence.commit),
                partition=partition,
                other=max(others, key=lambda other: other.rows),
            )
    raise NotReadyError("no deletion can be faked: deleting any row of a tuned cluster would change the partition")


def tamper(scenario: Scenario, tampering: Tampering, folder: Path) -> Evidence:
    """Copy the store into the folder, and delete the scenario's row there with this tampering."""
    evidence = scenario.evidence
    store = LocalStore(folder)
    for name in evidence.store.names():
        store.put(name, evidence.store.get(name))
    commit = _committed(scenario, tampering, store)
    signing_key = Ed25519PrivateKey.generate()
    request_id = _recorded(scenario, commit, store, signing_key)
    newest = read_evidence(store, evidence.manifest, evidence.hash_key, signing_key.public_key(), [request_id])
    named = newest.commit.objects()
    for prefix in DATA_FOLDERS:
        for name in store.names(prefix):
            if name not in named:
                store.purge(name, unfenced)
    return newest


def _committed(scenario: Scenario, tampering: Tampering, store: Store) -> Commit:
    """Write the objects of the tampered deletion; gives the commit that names them."""
    evidence, commit = scenario.evidence, scenario.evidence.commit
    if tampering == "request recorded but rows kept":
        return commit
    specialist = scenario.new
    if tampering == "old prompt served":
        # Like a service that forgot to tune again: the old prompt, and the features of the remaining rows under it.
        specialist = _with_prompt(scenario, torch.from_numpy(scenario.old.prompt))
    elif tampering == "prompt fine-tuned instead of tuned again":
        specialist = _with_prompt(scenario, _fine_tuned(scenario))
    with deterministic():
        shared, pooled = scenario.heads.shared, scenario.heads.pooled
        if tampering != "row kept in the head statistics only":
            shared = shared - Statistics.of_all([scenario.row], shared)
        pooled = pooled - Statistics.of_all([scenario.old], pooled) + Statistics.of_all([specialist], pooled)
        heads = HeadsState.of(shared, pooled)
    changed = {scenario.entry.key: _put_cluster(evidence.hash_key, store, scenario.entry, scenario.kept, specialist)}
    if tampering == "row kept in another cluster's file":
        other = read_rows_of(evidence.store, evidence.hash_key, scenario.other)
        more = RowTable.concatenate([other, scenario.row], scenario.pipeline.feature_map.width)
        changed[scenario.other.key] = _put_cluster(evidence.hash_key, store, scenario.other, more, None)
    heads_object = new_heads_object()
    store.put(heads_object, heads.to_safetensors())
    return replace(
        commit,
        clusters=tuple(changed.get(entry.key, entry) for entry in commit.clusters),
        heads_object=heads_object,
        heads_leaf=state_leaf(evidence.hash_key, HEADS_PART, heads.digest()),
        partition_leaf=state_leaf(evidence.hash_key, PARTITION_PART, json_digest(scenario.partition.canonical())),
    )


def _recorded(scenario: Scenario, commit: Commit, store: Store, signing_key: Ed25519PrivateKey) -> str:
    """Write the log records and the receipt of a completed deletion; gives its id."""
    evidence = scenario.evidence
    log = Log(store)
    term = log.advance()[-1].term
    request_id = uuid.uuid4().hex
    samples = (sample_hash(evidence.hash_key, scenario.sample.sample_id),)
    request = RequestBody(request_id, samples, (), (), (), idempotency=None, body="", deadline=None)
    accepted_at = log.append("request", term, request.to_body()).at
    erasure = Erasure(request_id, (scenario.entry.key,), rows=1)
    record = log.append("commit", term, replace(commit, erasures=(erasure,)).to_body())
    after = Commit.from_record(record)
    coverage = Coverage.of(request, erasure)
    name = new_receipt_object(request_id)
    erased = ErasedBody(request_id, erasure.clusters, coverage.rows, coverage.unknown, name)
    log.append("erased", term, erased.to_body())
    log.append("completed", term, CompletedBody(request_id, name).to_body())
    now = log.now()
    changed = sides(evidence.commit, after, erasure.clusters)
    body = statement(evidence.manifest, evidence.hash_key, request_id, coverage, (accepted_at, now), changed)
    body |= {"completed_at": now, "completed": {"log": after.number, "root": after.root}}
    store.put(name, canonical_json(sign(body, signing_key)))
    return request_id


def _removable(pipeline: Pipeline, tables: dict[str, RowTable], entry: ClusterEntry) -> Iterator[tuple[str, Partition]]:
    """Ids of rows of the cluster whose removal leaves the same clusters, each with the partition after it."""
    seed = pipeline.config.seed
    together = RowTable.concatenate(tables.values(), pipeline.feature_map.width)
    bits_N = together.bits(seed)
    for name in sorted(tables[entry.key].sample_ids, key=lambda name: draw(seed, "fake", name)):
        keep_N = np.array([other != name for other in together.sample_ids])
        with deterministic():
            partition = pipeline.partition(together.anchors_N[keep_N], bits_N[keep_N])
        if {cluster.key for cluster in partition.clusters} == set(tables):
            yield name, partition


def _with_prompt(scenario: Scenario, prompt: torch.Tensor) -> Specialist:
    features_NH = scenario.pipeline.prompted(scenario.pipeline.decode(scenario.kept.images), prompt)
    return Specialist(prompt.numpy(), features_NH, scenario.kept.labels_N)


def _fine_tuned(scenario: Scenario) -> torch.Tensor:
    """The old prompt after one more epoch over the remaining rows."""
    pipeline, kept = scenario.pipeline, scenario.kept
    config = replace(pipeline.config, tuning=replace(pipeline.config.tuning, epochs=1))
    rows = TuningRows(kept.sample_ids, pipeline.decode(kept.images), kept.labels_N)
    start = torch.from_numpy(scenario.old.prompt)
    return tune_prompt(pipeline.backbone, config, rows, start=start, feature_map=pipeline.feature_map)


def _put_cluster(
    hash_key: HashKey, store: Store, entry: ClusterEntry, rows: RowTable, specialist: Specialist | None
) -> ClusterEntry:
    """Write a cluster's objects; without a specialist, the cluster keeps the one that it has."""
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
