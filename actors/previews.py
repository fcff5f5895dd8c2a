"""Previews: what a deletion would do, computed by the code that does it, in memory alone (decision 60).

Owners write what they would write into a scratch store; the coordinator's sums and heads follow from that. Nothing is
recorded, and nobody else waits: the commit that the preview is of is replaced meanwhile if there is anything to do.

Legend: R rows that are erased.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from actors.committer import Committer
from actors.head_sums import HeadSums
from actors.jobs import RowsJob, WrittenRows
from actors.journal import Journal
from actors.owner import Owner
from actors.preview_tokens import Previewed, PreviewTokens
from actors.regroup import by_cluster
from actors.requests import NamedIds, Requests, covered, rows_of
from actors.row_index import Rows
from actors.segment_access import SegmentAccess
from actors.transition import Change, Transition, root_after
from actors.tunings import Tunings
from lmeraser.deletion import DeletionRequest, Preview
from lmeraser.errors import NotReadyError, ObjectMissingError, RequestError, StalePreviewError
from lmeraser.hashing import HashKey
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.manifest import Manifest
from lmeraser.state.segment import SegmentIndex
from lmeraser.store import Store
from lmeraser.store.scratch import ScratchStore

if TYPE_CHECKING:
    from lmeraser.state.pipeline import Pipeline

# The features of the rows are in memory, about 4 kB each.
MAX_ROWS = 100_000
# How often a preview is begun again because of a commit.
_TRIES = 3


class Previews:
    """Previews deletions, one at a time. For threads other than the one that commits."""

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        hash_key: HashKey,
        journal: Journal,
        committer: Committer,
        requests: Requests,
        tunings: Tunings,
        lease_s: float,
    ) -> None:
        self._store = store
        self._manifest = manifest
        self._hash_key = hash_key
        self._journal = journal
        self._committer = committer
        self._requests = requests
        self._tunings = tunings
        self._lease_s = lease_s
        self._tokens = PreviewTokens(hash_key, manifest.store_id)
        self._alone = threading.Lock()

    def preview(self, request: DeletionRequest, *, with_ids: bool = False) -> Preview:
        """What a deletion of these ids would do to the newest commit.

        Args:
            request: the ids.
            with_ids: whether to name the rows.

        Raises:
            RequestError: when an id is not allowed, there are none or too many, or they cover more than 100,000 rows.
            NotReadyError: when the store has never held any rows.
            StalePreviewError: when there was a commit during each of three tries.
        """
        return self._made(self._requests.named(request), with_ids)

    def preview_of(self, deletion_id: str, *, with_ids: bool = False) -> Preview:
        """What a deletion that waits for an approval would do to the newest commit.

        Raises:
            UnknownDeletionError: when there is no such deletion.
            DecidedError: when it does not wait for an approval.
            RequestError, StalePreviewError: as :meth:`preview`.
        """
        return self._made(self._requests.waiting(deletion_id), with_ids)

    def _made(self, named: NamedIds, with_ids: bool) -> Preview:
        with self._alone:
            for _ in range(_TRIES):
                try:
                    preview = self._preview(named, with_ids)
                except ObjectMissingError:
                    # The sweep after a commit has removed it.
                    self._journal.check()
                    continue
                if self._is_newest(preview.commit):
                    return preview
        raise StalePreviewError(f"something was committed during each of {_TRIES} tries: preview again")

    def _preview(self, named: NamedIds, with_ids: bool) -> Preview:
        begun_s = time.monotonic()
        with self._committer.unchanging():
            if self._committer.commit is None:
                raise NotReadyError("the store holds no rows: ingest some first")
            request = covered(self._committer.index, named.samples, named.subjects)
            rows = rows_of(self._committer.index, request.samples, request.subjects)
            if len(rows) > MAX_ROWS:
                raise RequestError(f"the ids cover {len(rows)} rows; a preview of at most {MAX_ROWS} can be made")
            clusters = by_cluster(rows, self._committer.partition)
            transition = self._committer.transition(Change(removed=rows))
        scratch = ScratchStore(self._store, lambda name: name.startswith(f"{self._manifest.folder}removed/"))
        written = self._written(scratch, transition)
        heads = transition.heads_after(written, HeadSums(scratch, self._manifest, self._hash_key))
        root = root_after(transition.commit_after(written), self._hash_key, heads)
        held = {key: (transition.before.by_key[key], rows_R) for key, rows_R in clusters.items()}
        row_passes, tuning_s = self._tunings.expected(transition.entries(written))
        sample_ids = self._sample_ids(held) if with_ids else None
        ids = {**named.samples, **named.subjects}
        unknown = {*request.unknown_samples, *request.unknown_subjects} - named.known
        number = transition.before.number
        return Preview(
            commit=number,
            root=root,
            rows=len(rows),
            subjects=len(request.subjects),
            unknown=len(unknown),
            unknown_ids=tuple(sorted(filter(None, {ids[each] for each in unknown}))),
            clusters=tuple(sorted(clusters)),
            coreset_rows=self._coreset_rows(held),
            row_passes=row_passes,
            # An erasure reads and computes what its preview has.
            seconds=None if tuning_s is None else round(time.monotonic() - begun_s + self._lease_s + tuning_s, 1),
            token=self._tokens.token(Previewed(number, root), named.asked),
            sample_ids=sample_ids,
        )

    def _is_newest(self, number: int) -> bool:
        commit = self._committer.commit
        return commit is not None and commit.number == number

    def _written(self, scratch: ScratchStore, transition: Transition) -> dict[str, WrittenRows]:
        return {job.region.key: self._owner(scratch, job).write_rows(job) for job in transition.regrouping.jobs}

    def _owner(self, scratch: ScratchStore, job: RowsJob) -> Owner:
        def no_pipeline() -> Pipeline:
            raise AssertionError("a preview tunes nothing")

        return Owner(scratch, self._manifest, self._hash_key, job.region.key, no_pipeline)

    def _coreset_rows(self, held: Mapping[str, tuple[ClusterEntry, Rows]]) -> int:
        size = self._manifest.config.tuning.coreset_rows
        count = 0
        for entry, rows in held.values():
            index = SegmentIndex.joined(self._access(entry).indexes(entry.segments))
            count += int(index.at(index.coreset(size)).among(rows.samples_R32).sum())
        return count

    def _sample_ids(self, held: Mapping[str, tuple[ClusterEntry, Rows]]) -> tuple[str, ...]:
        names: list[str] = []
        for entry, rows in held.values():
            access = self._access(entry)
            for segment, index in zip(entry.segments, access.indexes(entry.segments), strict=True):
                named_N = index.among(rows.samples_R32)
                if named_N.any():
                    ids = access.table(segment).sample_ids
                    names += [ids[row] for row in np.flatnonzero(named_N)]
        return tuple(sorted(names))

    def _access(self, entry: ClusterEntry) -> SegmentAccess:
        return SegmentAccess(self._store, self._manifest, self._hash_key, entry.key)
