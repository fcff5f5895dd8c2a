"""Forges commits as someone can who has all keys: leaves, root and log agree with the objects, whatever those hold.

Legend: N rows, H head features.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from small_system import System

from actors.committer import put_heads
from lmeraser.state.cluster_entry import ClusterEntry, Segment
from lmeraser.state.digests import state_leaf
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.log import Log
from lmeraser.state.rows import RowTable
from lmeraser.state.segment import SegmentIndex, bytes_leaf, prompted_digest, size_of
from lmeraser.state.specialist import Prompt, PromptedFeatures, Specialist


def commit_again(system: System, **changes: Any) -> None:
    """Append a commit with these changes, its root made right."""
    log = Log(system.store)
    term = log.advance()[-1].term
    log.append("commit", term, replace(system.newest(), **changes).to_body())


def commit_entry(system: System, entry: ClusterEntry) -> None:
    """Append a commit with this entry instead of the one with the same key."""
    clusters = tuple(entry if other.key == entry.key else other for other in system.newest().clusters)
    commit_again(system, clusters=clusters)


def commit_heads(system: System, heads: HeadsState) -> None:
    """Append a commit with these heads."""
    commit_again(system, heads=put_heads(system.store, system.manifest.folder, system.hash_key, heads))


def commit_cluster(system: System, entry: ClusterEntry, rows: RowTable, specialist: Specialist | None) -> None:
    """Append a commit in which the cluster has these rows, in one segment, and this specialist."""
    prompted_NH = None if specialist is None else specialist.features_NH
    forged = with_segments(system, entry, [(rows, prompted_NH)])
    commit_entry(system, forged if specialist is None else with_prompt(system, forged, specialist.prompt))


def with_segments(system: System, entry: ClusterEntry, parts: list[tuple[RowTable, np.ndarray | None]]) -> ClusterEntry:
    """The cluster with these segments: rows, and their prompted features, int16 [N, H], where they have some."""
    segments = tuple(_segment(system, entry.key, number, *part) for number, part in enumerate(parts))
    rows = RowTable.concatenate([rows for rows, _ in parts], 0)
    forged = replace(
        entry,
        rows=len(rows),
        segments=segments,
        rows_leaf=state_leaf(system.hash_key, f"rows/{entry.key}", rows.digest()),
    )
    prompted = [features_NH for _, features_NH in parts if features_NH is not None]
    if len(prompted) < len(parts):
        return replace(forged, prompted_leaf=None)
    digests = [digest for part, _ in parts for digest in part.row_digests()]
    digests_N32 = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)
    digest = prompted_digest(digests_N32, np.concatenate(prompted))
    return replace(forged, prompted_leaf=state_leaf(system.hash_key, f"prompted/{entry.key}", digest))


def with_prompt(system: System, entry: ClusterEntry, values: np.ndarray) -> ClusterEntry:
    """The cluster with this prompt."""
    prompt, name = Prompt(values), f"prompts/{entry.key}/forged.safetensors"
    system.store.put(name, prompt.to_safetensors())
    leaf = state_leaf(system.hash_key, f"prompt/{entry.key}", prompt.digest())
    return replace(entry, prompt_object=name, prompt_leaf=leaf)


def _segment(system: System, key: str, number: int, rows: RowTable, features_NH: np.ndarray | None) -> Segment:
    index = SegmentIndex.of(rows, system.manifest.config.seed, system.hash_key)
    name = f"rows/{key}/forged{number}"
    data = rows.to_parquet()
    system.store.put(f"{name}.parquet", data)
    system.store.put(f"{name}.ids", index.to_safetensors())
    leaf = state_leaf(system.hash_key, f"segment/{key}", index.digest())
    digest = bytes_leaf(system.hash_key, key, data)
    segment = Segment(len(rows), size_of(rows), f"{name}.parquet", digest, leaf)
    if features_NH is None:
        return segment
    features, name = PromptedFeatures(features_NH), f"prompted/{key}/forged{number}.safetensors"
    system.store.put(name, features.to_safetensors())
    leaf = state_leaf(system.hash_key, f"features/{key}", features.digest())
    return replace(segment, prompted_object=name, prompted_leaf=leaf)
