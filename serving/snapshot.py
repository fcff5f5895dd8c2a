"""The snapshot of one commit: everything that a replica answers from. Immutable, replaced as a whole.

Consecutive snapshots share what the commit between them did not change: heads, and the tensor of all prompts. Where a
prompt changed, the others are copied once on the device, so that the previous snapshot can answer meanwhile: until its
last batch ends, the device holds two tensors of prompts. (A token prompt of DeiT-Tiny has 12 KiB, and 500 have 6 MiB.)

Legend: K specialists, A anchors.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from lmeraser.errors import NotReadyError, ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.learning.heads import Head
from lmeraser.parallel import in_parallel
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import Commit
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.stored_objects import read_heads, read_prompt
from lmeraser.store import Store
from serving.routing_table import RoutingTable
from serving.scoring import Scoring, scoring

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """Everything that is needed to answer from one commit.

    Attributes:
        commit: the commit.
        prompts_K: one prompt per specialist, stacked, on the backbone's device.
        prompt_objects: names of the K objects that the prompts were read from.
        routes: from anchors to clusters and specialists.
        shared_head, pooled_head: solved heads.
    """

    commit: Commit
    prompts_K: torch.Tensor
    prompt_objects: tuple[str, ...]
    routes: RoutingTable
    shared_head: Head
    pooled_head: Head

    @cached_property
    def scorings(self) -> tuple[Scoring, Scoring]:
        """How the shared and the pooled head score features on the device of the prompts."""
        device = self.prompts_K.device
        return scoring(self.shared_head, device), scoring(self.pooled_head, device)


def load_snapshot(
    store: Store, pipeline: Pipeline, commit: Commit, hash_key: HashKey, previous: Snapshot | None = None
) -> Snapshot:
    """Read the snapshot of a commit.

    A prompt that is missing or does not have the digest that the commit names is logged and left out; the shared
    head then serves its cluster.

    Args:
        store: holds the commit's objects.
        pipeline: the store's pipeline, on the device that will answer.
        commit: the commit.
        hash_key: the key of the objects' digests.
        previous: an earlier snapshot, whose parts are reused. It stays as it is.

    Raises:
        NotReadyError: when the commit has no rows, or its heads are missing or corrupt.
        StoreError: when the store cannot be read.
    """
    if commit.rows == 0:
        raise NotReadyError("the system holds no rows")
    shared_head, pooled_head = _heads(store, commit, hash_key, previous)
    tuned = {entry.prompt_object: entry for entry in commit.clusters if entry.prompt_object is not None}
    known = previous.prompt_objects if previous is not None else ()
    kept = [place for place, name in enumerate(known) if name in tuned]
    already = set(known)
    new = _read_prompts(store, hash_key, [entry for name, entry in tuned.items() if name not in already])
    objects = (*(known[place] for place in kept), *new)
    if previous is not None and objects == known:
        prompts_K = previous.prompts_K
    else:
        prompts_K = _prompts(pipeline, previous, kept, list(new.values()))
    with_specialist = [tuned[name].key for name in objects]
    if previous is None:
        routes = RoutingTable.of_clusters(commit.clusters, with_specialist, pipeline.dendrogram.anchors)
    else:
        routes = previous.routes.followed_by(commit.clusters, with_specialist)
    snapshot = Snapshot(commit, prompts_K, objects, routes, shared_head, pooled_head)
    # Copied to the device now rather than by the first batch.
    _ = snapshot.scorings
    return snapshot


def _prompts(
    pipeline: Pipeline, previous: Snapshot | None, kept: Sequence[int], new: Sequence[np.ndarray]
) -> torch.Tensor:
    """The kept prompts of the previous snapshot and new ones, in a tensor of their own on the device."""
    device = pipeline.backbone.device
    prompts_K = torch.empty((len(kept) + len(new), *pipeline.prompt_kind.shape), device=device)
    if previous is not None and kept:
        torch.index_select(previous.prompts_K, 0, torch.tensor(kept, device=device), out=prompts_K[: len(kept)])
    if new:
        prompts_K[len(kept) :] = torch.from_numpy(np.stack(new))
    return prompts_K


def _read_prompts(store: Store, hash_key: HashKey, entries: Sequence[ClusterEntry]) -> dict[str, np.ndarray]:
    """The prompts of these clusters, by the names of their objects; without those that cannot be used."""

    def read(entry: ClusterEntry) -> np.ndarray | None:
        try:
            return read_prompt(store, hash_key, entry).values
        except (ObjectCorruptError, ObjectMissingError) as error:
            logger.error("cluster %s is served without its prompt: %s", entry.key, error)
            return None

    prompts = in_parallel(read, entries)
    return {
        str(entry.prompt_object): prompt for entry, prompt in zip(entries, prompts, strict=True) if prompt is not None
    }


def _heads(store: Store, commit: Commit, hash_key: HashKey, previous: Snapshot | None) -> tuple[Head, Head]:
    """The shared and the pooled head."""
    if previous is not None and previous.commit.heads.heads_object == commit.heads.heads_object:
        return previous.shared_head, previous.pooled_head
    try:
        heads = read_heads(store, hash_key, commit)
    except (ObjectCorruptError, ObjectMissingError) as error:
        logger.error("commit %d cannot be served: %s", commit.number, error)
        raise NotReadyError(f"the heads of commit {commit.number} are missing or corrupt") from error
    return heads.shared, heads.pooled
