"""The snapshot: all that a replica answers from, of one commit. Immutable, replaced whole.

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
from lmeraser.state.commit import ClusterEntry, Commit
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.stored_objects import read_heads, read_specialist
from lmeraser.store import Store
from serving.routing_table import RoutingTable, routes

logger = logging.getLogger(__name__)
# A bucket takes tens of milliseconds for each specialist, and there may be thousands.
_READERS = 32


@dataclass(frozen=True)
class Snapshot:
    """What answers from one commit.

    Attributes:
        commit: the commit.
        prompts_K: one prompt per specialist, stacked, on the backbone's device.
        specialists: K names of the objects that they were read from.
        routes: anchor to cluster and to specialist.
        shared_head, pooled_head: solved heads.
    """

    commit: Commit
    prompts_K: torch.Tensor
    specialists: tuple[str, ...]
    routes: RoutingTable
    shared_head: Head
    pooled_head: Head


def load_snapshot(
    store: Store, pipeline: Pipeline, commit: Commit, hash_key: HashKey, previous: Snapshot | None = None
) -> Snapshot:
    """Read the snapshot of a commit; specialists that ``previous`` holds are taken from it.

    A specialist that is missing or does not have the digest that the commit names is left out and logged:
    the shared head answers for its cluster.

    Raises:
        NotReadyError: when the commit has no rows, or its heads are missing or corrupt.
        StoreError: when the store cannot be read.
    """
    if commit.rows == 0:
        raise NotReadyError("the system holds no rows")
    heads = _heads(store, commit, hash_key)
    known = dict(zip(previous.specialists, previous.prompts_K, strict=True)) if previous is not None else {}

    def prompt_of(entry: ClusterEntry) -> torch.Tensor | None:
        assert entry.specialist_object is not None
        if (prompt := known.get(entry.specialist_object)) is not None:
            return prompt
        try:
            specialist = read_specialist(store, hash_key, entry.key, entry.specialist_object, entry.specialist_leaf)
        except (ObjectCorruptError, ObjectMissingError) as error:
            logger.error("cluster %s answers without its specialist: %s", entry.key, error)
            return None
        return torch.from_numpy(specialist.prompt).to(pipeline.backbone.device)

    tuned = [entry for entry in commit.clusters if entry.specialist_object is not None]
    with ThreadPoolExecutor(_READERS, thread_name_prefix="prompts") as readers:
        read = list(zip(tuned, readers.map(prompt_of, tuned), strict=True))
    prompts = [prompt for _, prompt in read if prompt is not None]
    answering = [entry for entry, prompt in read if prompt is not None]
    empty = torch.zeros((0, *pipeline.prompt_kind.shape), device=pipeline.backbone.device)
    return Snapshot(
        commit=commit,
        prompts_K=torch.stack(prompts) if prompts else empty,
        specialists=tuple(str(entry.specialist_object) for entry in answering),
        routes=routes(commit.clusters, [entry.key for entry in answering], pipeline.dendrogram.anchors),
        shared_head=heads.shared_head,
        pooled_head=heads.pooled_head,
    )


def _heads(store: Store, commit: Commit, hash_key: HashKey) -> HeadsState:
    try:
        return read_heads(store, hash_key, commit)
    except (ObjectCorruptError, ObjectMissingError) as error:
        logger.error("no answers from commit %d: %s", commit.number, error)
        raise NotReadyError(f"the heads of commit {commit.number} cannot be used") from error
