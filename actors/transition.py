"""From one commit to the next: what a change of rows does to the state, for a commit and for a preview alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from actors.head_sums import HeadSums, sum_of
from actors.ingests import NOTHING_ADDED, AddedRows
from actors.jobs import WrittenRows
from actors.live_partition import LocalChange
from actors.regroup import Regrouping
from actors.row_index import NO_ROWS, Rows
from lmeraser.hashing import HashKey
from lmeraser.learning.numerics import deterministic_alone
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import Commit, Erasure, StoredHeads
from lmeraser.state.digests import state_leaf
from lmeraser.state.heads_state import HeadsState
from lmeraser.state.layout import HEADS_PART, SUMS_PART


@dataclass(frozen=True)
class Change:
    """A change of the rows: deletions that are carried out, or rows that an ingest adds.

    Attributes:
        erasures: what each deletion removes, and what the commit says of it.
        removed: all rows that are erased.
        added: the rows that are added.
    """

    erasures: tuple[Erasure, ...] = ()
    removed: Rows = NO_ROWS
    added: AddedRows = NOTHING_ADDED


@dataclass(frozen=True)
class Transition:
    """What a change of rows does to the clusters.

    Attributes:
        before: the commit before it.
        heads: the heads before it.
        change: the change.
        local: what becomes of the partition.
        regrouping: which clusters change, and what their owners have to write.
    """

    before: Commit
    heads: HeadsState
    change: Change
    local: LocalChange
    regrouping: Regrouping

    @property
    def touched(self) -> frozenset[str]:
        """Keys of the clusters before it that change."""
        return frozenset(entry.key for entry in self.regrouping.replaced)

    @property
    def ended(self) -> frozenset[str]:
        """Keys of the clusters that are no more."""
        return frozenset(entry.key for entry in self.regrouping.ended)

    def entries(self, written: Mapping[str, WrittenRows]) -> list[ClusterEntry]:
        """The clusters that the owners have written."""
        return [written[job.region.key].entry for job in self.regrouping.jobs]

    def commit_after(self, written: Mapping[str, WrittenRows]) -> Commit:
        """The commit after it, but for its heads; it is not appended yet.

        Args:
            written: what the owners have written, by cluster key.
        """
        return self.before.changed(self.entries(written), self.ended, self.change.erasures)

    def heads_after(self, written: Mapping[str, WrittenRows], sums: HeadSums) -> HeadsState:
        """The heads without the removed rows and the prompted features that end, and with the added rows.

        Args:
            written: what the owners have written, by cluster key.
            sums: reads the features of the rows that leave.
        """
        change, regrouping = self.change, self.regrouping
        added = change.added.statistics
        with deterministic_alone():
            shared, pooled = self.heads.sums.shared, self.heads.sums.pooled
            removed = sums.removed_from(written)
            shared = shared - sum_of((each.shared for each in removed), shared)
            shared = shared - sum_of(sums.rows_of(regrouping.ended, change.removed.samples_R32), shared)
            if added is not None:
                shared = shared + added
            ending = [
                entry
                for entry in regrouping.replaced
                if entry.key not in written or written[entry.key].entry.prompt_object is None
            ]
            return HeadsState.of(shared, sums.pooled_after(pooled, self.before, ending, removed))


def heads_leaves(hash_key: HashKey, heads: HeadsState) -> dict[str, str]:
    """The keyed digests of the heads and of the sums behind them, by part."""
    return {part: state_leaf(hash_key, part, digest) for part, digest in heads.digests().items()}


def root_after(commit: Commit, hash_key: HashKey, heads: HeadsState) -> str:
    """The state root of a commit with these heads, which need not be stored."""
    leaves = heads_leaves(hash_key, heads)
    stored: StoredHeads = replace(commit.heads, heads_leaf=leaves[HEADS_PART], sums_leaf=leaves[SUMS_PART])
    return commit.with_heads(stored).root
