"""The snapshot of one commit: everything that a replica answers from. Immutable, replaced as a whole.

Legend: K specialists, A anchors.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from lmeraser.errors import NotReadyError, ObjectCorruptError, ObjectMissingError
from lmeraser.hashing import HashKey
from lmeraser.learning.heads import Head
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import Commit
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.stored_objects import read_heads, read_prompt
from lmeraser.store import Store
from serving.routing_table import RoutingTable

logger = logging.getLogger(__name__)
# A bucket takes tens of milliseconds per specialist, and there may be thousands of them.
_READERS = 32


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
        previous: an earlier snapshot, whose prompts are reused.

    Raises:
        NotReadyError: when the commit has no rows, or its heads are missing or corrupt.
        StoreError: when the store cannot be read.
    """
    if commit.rows == 0:
        raise NotReadyError("the system holds no rows")
    heads = _heads(store, commit, hash_key)
    known = dict(zip(previous.prompt_objects, previous.prompts_K, strict=True)) if previous is not None else {}

    def prompt_of(entry: ClusterEntry) -> torch.Tensor | None:
        if (prompt := known.get(str(entry.prompt_object))) is not None:
            return prompt
        try:
            values = read_prompt(store, hash_key, entry).values
        except (ObjectCorruptError, ObjectMissingError) as error:
            logger.error("cluster %s is served without its prompt: %s", entry.key, error)
            return None
        return torch.from_numpy(values).to(pipeline.backbone.device)

    tuned = [entry for entry in commit.clusters if entry.prompt_object is not None]
    with ThreadPoolExecutor(_READERS, thread_name_prefix="prompts") as readers:
        entries = list(zip(tuned, readers.map(prompt_of, tuned), strict=True))
    prompts = [prompt for _, prompt in entries if prompt is not None]
    served = [entry for entry, prompt in entries if prompt is not None]
    empty = torch.zeros((0, *pipeline.prompt_kind.shape), device=pipeline.backbone.device)
    return Snapshot(
        commit=commit,
        prompts_K=torch.stack(prompts) if prompts else empty,
        prompt_objects=tuple(str(entry.prompt_object) for entry in served),
        routes=RoutingTable.of_clusters(commit.clusters, [entry.key for entry in served], pipeline.dendrogram.anchors),
        shared_head=heads.shared_head,
        pooled_head=heads.pooled_head,
    )


def _heads(store: Store, commit: Commit, hash_key: HashKey) -> HeadsState:
    try:
        return read_heads(store, hash_key, commit)
    except (ObjectCorruptError, ObjectMissingError) as error:
        logger.error("commit %d cannot be served: %s", commit.number, error)
        raise NotReadyError(f"the heads of commit {commit.number} are missing or corrupt") from error
