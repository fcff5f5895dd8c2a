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
from lmeraser.audit.forged_objects import ForgedObjects
from lmeraser.data import Sample
from lmeraser.errors import NotReadyError
from lmeraser.hashing import canonical_json, draw, sample_hash
from lmeraser.learning.heads import Statistics
from lmeraser.learning.numerics import deterministic
from lmeraser.learning.partition import Partition
from lmeraser.learning.tuning import TuningRows, tune_prompt
from lmeraser.proof.receipts import Coverage, sides, statement
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import Commit, Erasure
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import (
    data_folders,
    new_receipt_object,
)
from lmeraser.state.log import Log
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.record_bodies import CompletedBody, ErasedBody, RequestBody, body_of
from lmeraser.state.rows import RowTable, order_of
from lmeraser.state.signatures import sign
from lmeraser.state.specialist import Specialist
from lmeraser.state.stored_objects import read_cluster, read_heads_state
from lmeraser.store import LocalStore, Store, unfenced

Tampering = Literal[
    "honest",
    "row kept in the head statistics only",
    "old prompt served",
    "row kept in another cluster's file",
    "prompt fine-tuned instead of tuned again",
    "row kept in the prompted features",
    "coreset not filled up",
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
        old, new: the cluster's specialist before and after; the row is of the coreset, so they differ.
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
    """Choose a coreset row of a tuned cluster, whose deletion changes no other cluster; of a touched one if possible.

    Raises:
        NotReadyError: when there is no such row.
        ObjectMissingError, ObjectCorruptError: when an object is not what the commit names.
    """
    store, key = evidence.store, evidence.hash_key
    clusters = {entry.key: read_cluster(store, key, entry) for entry in evidence.commit.clusters}
    tables = {cluster: rows for cluster, (rows, _) in clusters.items()}
    touched = {entry.key for entry in evidence.touched()}
    for entry in sorted(evidence.commit.clusters, key=lambda entry: (entry.key not in touched, -entry.rows)):
        others = [other for other in evidence.commit.clusters if other.key != entry.key]
        old = clusters[entry.key][1]
        if old is None or not pipeline.config.tunes(entry.rows - 1) or not others:
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
                old=old,
                new=pipeline.specialist(kept),
                heads=read_heads_state(store, key, evidence.commit),
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
    for prefix in data_folders(evidence.manifest.folder):
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
        specialist = _with_prompt(scenario, scenario.kept, scenario.old.prompt)
    elif tampering == "prompt fine-tuned instead of tuned again":
        specialist = _with_prompt(scenario, scenario.kept, _fine_tuned(scenario).numpy())
    elif tampering == "coreset not filled up":
        # Like a service that remembers which rows it has tuned on, so that the prompt depends on history.
        specialist = _with_prompt(scenario, scenario.kept, _tuned_on_fewer(scenario))
    with deterministic():
        shared, pooled = scenario.heads.sums.shared, scenario.heads.sums.pooled
        if tampering != "row kept in the head statistics only":
            shared = shared - Statistics.of_all([scenario.row], shared)
        pooled = pooled - Statistics.of_all([scenario.old], pooled) + Statistics.of_all([specialist], pooled)
        if tampering == "row kept in the prompted features":
            kept = _with_prompt(scenario, scenario.row, specialist.prompt)
            pooled = pooled + Statistics.of_all([kept], pooled)
        heads = HeadsState.of(shared, pooled)
    objects = ForgedObjects(store, evidence.manifest, evidence.hash_key)
    changed = {scenario.entry.key: objects.cluster(scenario.entry, scenario.kept, specialist)}
    if tampering == "row kept in another cluster's file":
        changed[scenario.other.key] = objects.cluster(scenario.other, *_other_with_row(scenario))
    return replace(
        commit,
        clusters=tuple(changed.get(entry.key, entry) for entry in commit.clusters),
        heads=objects.heads(heads),
    )


def _recorded(scenario: Scenario, commit: Commit, store: Store, signing_key: Ed25519PrivateKey) -> str:
    """Write the log records and the receipt of a completed deletion; gives its id."""
    evidence = scenario.evidence
    log = Log(store)
    term = log.advance()[-1].term
    request_id = uuid.uuid4().hex
    samples = (sample_hash(evidence.hash_key, scenario.sample.sample_id),)
    request = RequestBody(request_id, samples, (), (), (), idempotency=None, body="", deadline=None)
    accepted_at = log.append("request", term, body_of([request])).at
    erasure = Erasure(request_id, (scenario.entry.key,), rows=1)
    record = log.append("commit", term, replace(commit, erasures=(erasure,)).to_body())
    after = Commit.from_record(record)
    coverage = Coverage.of(request, erasure)
    name = new_receipt_object(request_id)
    now = log.now()
    erased = ErasedBody(request_id, erasure.clusters, coverage.rows, coverage.unknown, now, name)
    log.append("erased", term, body_of([erased]))
    log.append("completed", term, body_of([CompletedBody(request_id, now, name)]))
    changed = sides(evidence.commit, after, erasure.clusters)
    body = statement(evidence.manifest, evidence.hash_key, request_id, coverage, (accepted_at, now), changed)
    body |= {"completed_at": now, "completed": {"log": after.number, "root": after.root}}
    store.put(name, canonical_json(sign(body, signing_key)))
    return request_id


def _removable(pipeline: Pipeline, tables: dict[str, RowTable], entry: ClusterEntry) -> Iterator[tuple[str, Partition]]:
    """Ids of coreset rows whose removal leaves the same clusters, each with the partition after it."""
    seed, in_coreset = pipeline.config.seed, pipeline.coreset(tables[entry.key]).sample_ids
    together = RowTable.concatenate(tables.values(), pipeline.feature_map.width)
    bits_N = together.bits(seed)
    for name in sorted(in_coreset, key=lambda name: draw(seed, "fake", name)):
        keep_N = np.array([other != name for other in together.sample_ids])
        with deterministic():
            partition = pipeline.partition(together.anchors_N[keep_N], bits_N[keep_N])
        if {cluster.key for cluster in partition.clusters} == set(tables):
            yield name, partition


def _with_prompt(scenario: Scenario, rows: RowTable, prompt: np.ndarray) -> Specialist:
    """The specialist of these rows with this prompt, whatever it was tuned on."""
    return Specialist(prompt, scenario.pipeline.embedded(rows.images, prompt), rows.labels_N)


def _other_with_row(scenario: Scenario) -> tuple[RowTable, Specialist | None]:
    """The rows of the other cluster and the row, and the specialist of all of them where the other cluster has one."""
    evidence = scenario.evidence
    rows, specialist = read_cluster(evidence.store, evidence.hash_key, scenario.other)
    more = RowTable.concatenate([rows, scenario.row], rows.features_NH.shape[1])
    if specialist is None:
        return more, None
    added = _with_prompt(scenario, scenario.row, specialist.prompt)
    features_NH = np.concatenate([specialist.features_NH, added.features_NH])
    return more, Specialist(specialist.prompt, features_NH[order_of([rows, scenario.row])], more.labels_N)


def _tuned_on_fewer(scenario: Scenario) -> np.ndarray:
    """A prompt tuned on the coreset of the remaining rows without one of its rows."""
    rows = scenario.pipeline.coreset(scenario.kept)
    return scenario.pipeline.tuned_prompt(rows.between(0, len(rows) - 1))


def _fine_tuned(scenario: Scenario) -> torch.Tensor:
    """The old prompt after one more epoch over the remaining rows."""
    pipeline, kept = scenario.pipeline, scenario.kept
    config = replace(pipeline.config, tuning=replace(pipeline.config.tuning, epochs=1))
    rows = TuningRows(kept.sample_ids, pipeline.decode(kept.images), kept.labels_N)
    start = torch.from_numpy(scenario.old.prompt)
    return tune_prompt(pipeline.backbone, config, rows, start=start, feature_map=pipeline.feature_map)
