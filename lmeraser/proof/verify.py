"""Verification: is the stored state what the remaining rows give, byte for byte?"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

from lmeraser.data import Sample, check_samples, unusable_images
from lmeraser.errors import ConfigError, DataError, NotReadyError, ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.progress import Progress
from lmeraser.proof.contents import Damage, leaves_of_entry
from lmeraser.proof.recompute import fresh_leaves, rows_of, specialists_of, worker_processes
from lmeraser.state.checkpoint import CommitReader
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import Commit
from lmeraser.state.digests import state_leaf
from lmeraser.state.heads_state import SolvedHeads, Sums
from lmeraser.state.layout import HEADS_PART, SUMS_PART, prompt_part, prompted_part, rows_part
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.state.merkle import merkle_root
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.state.rows import RowTable
from lmeraser.store import Store


@dataclass(frozen=True)
class Verification:
    """The result of a recomputation.

    Attributes:
        equal: whether the stored state equals the recomputed one.
        state_root: root over what the store's objects really contain.
        fresh_root: root over what the remaining rows give.
        differing: the parts of the state that differ, such as ``prompt/<cluster>``.
        damaged: why parts of the state cannot be compared, by part: an object is missing or damaged.
        awaiting: clusters that still await tuning; while there are any, the state is not final.
        rows: how many rows were recomputed.
    """

    equal: bool
    state_root: str
    fresh_root: str
    differing: tuple[str, ...]
    damaged: Mapping[str, str]
    awaiting: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Comparison:
    """The leaves of the state root from three sources.

    Attributes:
        stored: from what the store's objects really contain, or Damage.
        fresh: from the remaining rows.
        committed: from the newest commit.
        awaiting: clusters that still await tuning.
        rows: how many rows were recomputed.
    """

    stored: Mapping[str, str]
    fresh: Mapping[str, str]
    committed: Mapping[str, str]
    awaiting: tuple[str, ...]
    rows: int

    @property
    def differing(self) -> tuple[str, ...]:
        """The parts of the state that could be read, and on which the three disagree."""
        differing = {name for name in {*self.stored, *self.fresh} if self.stored.get(name) != self.fresh.get(name)}
        differing |= {name for name in self.stored if self.stored[name] != self.committed.get(name)}
        return tuple(sorted(differing - self.damaged.keys()))

    @property
    def damaged(self) -> Mapping[str, str]:
        """Why parts of the state could not be read, by part."""
        return {name: str(leaf) for name, leaf in sorted(self.stored.items()) if isinstance(leaf, Damage)}


def current_commit(store: Store) -> Commit:
    """The newest commit, read from the newest checkpoint and the records after it.

    Raises:
        LogError: when the chain of these records is broken.
        NotReadyError: when nothing was ever committed.
    """
    commit = CommitReader(store).advance()
    if commit is None:
        raise NotReadyError("the store holds no commit: ingest rows first")
    return commit


def verify(
    store: Store,
    hash_key: HashKey,
    cluster: str | None = None,
    processes: int = 1,
    report: Progress | None = None,
) -> Verification:
    """Recompute the state from the remaining rows, and compare it with what the store contains.

    Only ids, labels and images are taken from the store; features, partition, prompts and heads are recomputed.

    Args:
        store: the store.
        hash_key: the key that the state's leaves are hashed under.
        cluster: compare only the rows, the prompt and the prompted features of this cluster; None for the whole state.
        processes: how many processes recompute; 1 is this process.
        report: called as features and tunings are computed.

    Raises:
        NotReadyError: when nothing was ever committed.
        ConfigError: when there is no such cluster.
        FingerprintError: when the numerics here are not the store's.
        KeysError: when the hash key is not the store's.
        ObjectMissingError: when a row file is missing.
        ObjectCorruptError: when a row file cannot be read, or holds rows that no ingest would accept.
    """
    with worker_processes(store.uri, processes) as workers:
        comparison = compare(store, hash_key, workers, cluster, report)
    differing, damaged = comparison.differing, comparison.damaged
    return Verification(
        equal=not (differing or damaged),
        state_root=merkle_root(comparison.stored),
        fresh_root=merkle_root(comparison.fresh),
        differing=differing,
        damaged=damaged,
        awaiting=comparison.awaiting,
        rows=comparison.rows,
    )


def compare(
    store: Store,
    hash_key: HashKey,
    workers: Executor,
    cluster: str | None = None,
    report: Progress | None = None,
) -> Comparison:
    """The leaves behind :func:`verify`, recomputed by these workers. Raises the same errors."""
    manifest = load_manifest(store)
    commit = current_commit(store)
    manifest.check_hash_key(commit.fixed_leaves, hash_key)
    pipeline = load_pipeline(store, manifest)
    entries = _chosen(commit, cluster)
    samples = [sample for entry in entries for sample in _samples(store, entry, manifest.config.labels)]
    if cluster is None:
        stored = _stored_leaves(store, manifest, hash_key, commit)
        fresh = fresh_leaves(pipeline, manifest, hash_key, samples, workers, report)
    else:
        stored = leaves_of_entry(store, manifest, hash_key, entries[0])
        fresh = _fresh_leaves_of(pipeline, hash_key, cluster, rows_of(pipeline, samples, workers, report), workers)
    return Comparison(
        stored=stored,
        fresh=fresh,
        committed=commit.leaves(),
        awaiting=tuple(entry.key for entry in entries if entry.state(manifest.config.tunes) == "awaits tuning"),
        rows=len(samples),
    )


def _fresh_leaves_of(
    pipeline: Pipeline, hash_key: HashKey, cluster: str, rows: RowTable, workers: Executor
) -> dict[str, str]:
    """The leaves of one cluster, recomputed from its rows."""
    digests = {rows_part(cluster): rows.digest()}
    if pipeline.config.tunes(len(rows)):
        specialist = specialists_of(pipeline, [rows], workers)[0]
        digests[prompt_part(cluster)], digests[prompted_part(cluster)] = specialist.digests(rows)
    return {name: state_leaf(hash_key, name, digest) for name, digest in digests.items()}


def _chosen(commit: Commit, cluster: str | None) -> tuple[ClusterEntry, ...]:
    if cluster is None:
        return commit.clusters
    entry = commit.entry(cluster)
    if entry is None:
        keys = ", ".join(entry.key for entry in commit.clusters[:5])
        raise ConfigError(f"there is no cluster {cluster!r}; there are {len(commit.clusters)}, such as {keys}")
    return (entry,)


def _samples(store: Store, entry: ClusterEntry, labels: tuple[str, ...]) -> list[Sample]:
    samples: list[Sample] = []
    for name in (segment.rows_object for segment in entry.segments):
        table = RowTable.from_parquet(store.get(name), name)
        columns = (table.sample_ids, table.subject_ids, table.labels_N.tolist(), table.images)
        try:
            checked = check_samples([Sample(*row) for row in zip(*columns, strict=True)], labels, skip_bad=True)
            samples += checked
            if checked.skipped:
                # Without advice: here nothing can leave them out.
                raise unusable_images(checked.skipped, any_good=False)
        except DataError as error:
            raise ObjectCorruptError(f"{name} holds rows that no ingest would accept: {error}") from error
    return samples


def _stored_leaves(store: Store, manifest: Manifest, hash_key: HashKey, commit: Commit) -> dict[str, str]:
    leaves = manifest.leaves(hash_key)
    stored = ((HEADS_PART, SolvedHeads, commit.heads.heads_object), (SUMS_PART, Sums, commit.heads.sums_object))
    for part, kind, name in stored:
        try:
            leaves[part] = state_leaf(hash_key, part, kind.from_safetensors(store.get(name), name).digest())
        except (ObjectMissingError, ObjectCorruptError) as error:
            leaves[part] = Damage(error)
    for entry in commit.clusters:
        leaves |= leaves_of_entry(store, manifest, hash_key, entry)
    return leaves
