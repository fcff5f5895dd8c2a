"""Writes objects of clusters and heads as the service would, whatever their content: for faked deletions."""

from __future__ import annotations

from dataclasses import replace

from lmeraser.hashing import HashKey
from lmeraser.state.cluster_entry import ClusterEntry, Segment
from lmeraser.state.commit import StoredHeads
from lmeraser.state.digests import state_leaf
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import (
    HEADS_PART,
    SUMS_PART,
    coreset_part,
    features_part,
    index_object,
    new_heads_object,
    new_prompt_object,
    new_prompted_object,
    new_rows_object,
    new_sums_object,
    prompt_part,
    prompted_part,
    rows_part,
    segment_part,
)
from lmeraser.state.manifest import Manifest
from lmeraser.state.provenance import coreset_contents
from lmeraser.state.rows import RowTable
from lmeraser.state.segment import SegmentIndex, bytes_leaf, size_of
from lmeraser.state.specialist import Prompt, PromptedFeatures, Specialist
from lmeraser.store import Store


class ForgedObjects:
    """Writes objects into a copy of a store."""

    def __init__(self, store: Store, manifest: Manifest, hash_key: HashKey) -> None:
        self._store = store
        self._config = manifest.config
        self._folder = manifest.folder
        self._hash_key = hash_key

    def cluster(self, entry: ClusterEntry, rows: RowTable, specialist: Specialist | None) -> ClusterEntry:
        """The cluster with these rows and this specialist, in one segment; without one, it has none before either."""
        key = entry.key
        segment = self._segment(key, rows)
        if specialist is None:
            return self._with_rows(entry, rows, segment)
        prompt, name = Prompt(specialist.prompt), new_prompt_object(self._folder, key)
        self._store.put(name, prompt.to_safetensors())
        _, prompted_digest = specialist.digests(rows)
        return replace(
            self._with_rows(entry, rows, self._embedded(key, segment, specialist)),
            prompt_object=name,
            prompt_leaf=self._leaf(prompt_part(key), prompt.digest()),
            prompted_leaf=self._leaf(prompted_part(key), prompted_digest),
        )

    def heads(self, state: HeadsState) -> StoredHeads:
        """These sums and heads."""
        heads_object, sums_object = new_heads_object(self._folder), new_sums_object(self._folder)
        self._store.put(heads_object, state.solved.to_safetensors())
        self._store.put(sums_object, state.sums.to_safetensors())
        leaves = {part: self._leaf(part, digest) for part, digest in state.digests().items()}
        return StoredHeads(heads_object, leaves[HEADS_PART], sums_object, leaves[SUMS_PART])

    def _with_rows(self, entry: ClusterEntry, rows: RowTable, segment: Segment) -> ClusterEntry:
        """The cluster with these rows, which are in this segment."""
        index = SegmentIndex.of(rows, self._config.seed, self._hash_key)
        coreset_digest = index.coreset_digest(self._config.tuning.coreset_rows)
        return replace(
            entry,
            rows=len(rows),
            segments=(segment,),
            rows_leaf=self._leaf(rows_part(entry.key), rows.digest()),
            coreset_leaf=self._leaf(coreset_part(entry.key), coreset_digest),
            coreset_contents=coreset_contents(self._hash_key, index, self._config),
        )

    def _segment(self, key: str, rows: RowTable) -> Segment:
        name, index = new_rows_object(self._folder, key), SegmentIndex.of(rows, self._config.seed, self._hash_key)
        data = rows.to_parquet()
        self._store.put(name, data)
        self._store.put(index_object(name), index.to_safetensors())
        leaf = self._leaf(segment_part(key), index.digest())
        return Segment(len(rows), size_of(rows), name, bytes_leaf(self._hash_key, key, data), leaf)

    def _embedded(self, key: str, segment: Segment, specialist: Specialist) -> Segment:
        features, name = PromptedFeatures(specialist.features_NH), new_prompted_object(self._folder, key)
        self._store.put(name, features.to_safetensors())
        return segment.with_features(name, self._leaf(features_part(key), features.digest()))

    def _leaf(self, part: str, digest: str) -> str:
        return state_leaf(self._hash_key, part, digest)
