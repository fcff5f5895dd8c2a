"""What the log says about the deletions that are audited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lmeraser.errors import ConfigError, LogError, NotReadyError
from lmeraser.hashing import HashKey, row_hashes
from lmeraser.proof.receipts import Coverage
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.commit import Commit, Erasure
from lmeraser.state.log import Log, Record
from lmeraser.state.manifest import Manifest
from lmeraser.state.record_bodies import CompletedBody, ErasedBody, RequestBody, TermBody, deletions_of
from lmeraser.store import Store

_NOTHING = Erasure("")


@dataclass(frozen=True)
class AuditedDeletion:
    """One deletion.

    Attributes:
        request: what the record that accepted it says.
        accepted_at: when that was; once it is approved, when it was, if it awaited approval.
        decision: the record that approved or declined it.
        before, after: the commit that its erasure was made from, and the one that erased its rows; None while it is
            only accepted.
        erasure: what that commit says about it; empty while it is only accepted.
        erased, completed, failed: the newest record of each kind.
        clusters: keys of the clusters that the record of the erasure names.
        receipt: name of the receipt that the newest record makes valid.
    """

    request: RequestBody
    accepted_at: str
    before: Commit | None = None
    after: Commit | None = None
    erasure: Erasure = _NOTHING
    erased: Record | None = None
    completed: Record | None = None
    failed: Record | None = None
    clusters: tuple[str, ...] = ()
    receipt: str = ""
    decision: Record | None = None

    @property
    def id(self) -> str:
        """The deletion's id."""
        return self.request.id

    @property
    def coverage(self) -> Coverage:
        """What it covers."""
        return Coverage.of(self.request, self.erasure)

    @property
    def samples(self) -> frozenset[str]:
        """Keyed hashes of the rows that it covers."""
        return frozenset(self.coverage.samples)

    @property
    def hashes(self) -> frozenset[str]:
        """Keyed hashes of the rows that it covers, and of all samples and subjects that it named."""
        request = self.request
        return self.samples.union(self.coverage.subjects, request.unknown_samples, request.unknown_subjects)

    @property
    def status(self) -> str:
        """Its status, as the log has it."""
        if self.completed is not None:
            return "completed"
        if self.failed is not None:
            return "failed"
        if self.erased is not None:
            return "erased"
        if self.decision is not None and self.decision.kind == "declined":
            return "declined"
        return "requested" if self.request.awaits_approval and self.decision is None else "accepted"


@dataclass(frozen=True)
class Evidence:
    """A store as its log describes it.

    Attributes:
        store, manifest: where it is, and its unchanging part.
        hash_key: the key of its hashes.
        public_key: the key that its receipts are signed with.
        records: the whole log.
        commits: by record number.
        commit: the newest.
        deletions: all of the log, by id.
        audited: those that this audit is about.
    """

    store: Store
    manifest: Manifest
    hash_key: HashKey
    public_key: Ed25519PublicKey
    records: tuple[Record, ...]
    commits: Mapping[int, Commit]
    commit: Commit
    deletions: Mapping[str, AuditedDeletion]
    audited: tuple[AuditedDeletion, ...]

    def touched(self) -> tuple[ClusterEntry, ...]:
        """The clusters of the newest commit that cover the regions of the touched clusters."""
        anchors = {
            anchor
            for deletion in self.audited
            if deletion.before is not None
            for key in deletion.erasure.clusters
            if (entry := deletion.before.entry(key)) is not None
            for anchor in entry.anchors
        }
        return tuple(entry for entry in self.commit.clusters if not anchors.isdisjoint(entry.anchors))

    def covers(self, sample_id: str, subject_id: str | None) -> bool:
        """Whether an audited deletion names this sample or its subject."""
        hashes = row_hashes(self.hash_key, sample_id, subject_id)
        return any(not hashes.isdisjoint(deletion.hashes) for deletion in self.audited)


def read_evidence(
    store: Store, manifest: Manifest, hash_key: HashKey, public_key: Ed25519PublicKey, requests: Sequence[str]
) -> Evidence:
    """Read the log.

    Args:
        store, manifest: the store.
        hash_key, public_key: its keys.
        requests: ids of the deletions to audit.

    Raises:
        ConfigError: when no deletion has one of the ids.
        KeysError: when the hash key is not the store's.
        LogError: when the chain is broken, a record is malformed, a commit's root does not follow from its leaves, or a
            term continues from a record that is no commit.
        NotReadyError: when nothing was ever committed.
    """
    records = tuple(Log(store).advance())
    commits: dict[int, Commit] = {}
    deletions: dict[str, AuditedDeletion] = {}
    newest: Commit | None = None
    origin: Commit | None = None
    for record in records:
        if record.kind == "commit":
            newest = Commit.from_record(record, newest)
            commits[record.number] = newest
            for erasure in newest.erasures:
                deletions[erasure.id] = _erased_by(deletions[erasure.id], origin or newest, newest, erasure)
            origin = newest
        elif record.kind == "request":
            for request in RequestBody.all_from(record):
                deletions[request.id] = AuditedDeletion(request, record.at)
        elif record.kind == "term":
            # A restore continues from an earlier commit.
            base = TermBody.from_record(record).base
            origin = _commit_at(commits, base, record) if base is not None else origin
        else:
            deletions |= {after.id: after for after in _followed(deletions, record)}
    if newest is None:
        raise NotReadyError("the store holds no commit: ingest rows first")
    manifest.check_hash_key(newest.fixed_leaves, hash_key)
    unknown = [name for name in requests if name not in deletions]
    if unknown:
        raise ConfigError(f"no deletion has the id {unknown[0]!r}; `lmeraser deletions list` names them")
    audited = tuple(deletions[name] for name in dict.fromkeys(requests))
    return Evidence(store, manifest, hash_key, public_key, records, commits, newest, deletions, audited)


def _commit_at(commits: Mapping[int, Commit], base: int, term: Record) -> Commit:
    """The commit that a term continues from."""
    if base not in commits:
        raise LogError(f"log record {term.number} continues from record {base}, which is not an earlier commit")
    return commits[base]


def _erased_by(deletion: AuditedDeletion, origin: Commit, commit: Commit, erasure: Erasure) -> AuditedDeletion:
    """The deletion after a commit that erases its rows, or another part of them."""
    if deletion.before is not None and deletion.erasure.remaining:
        return replace(deletion, after=commit, erasure=deletion.erasure.followed_by(erasure))
    return replace(deletion, before=origin, after=commit, erasure=erasure)


def _followed(deletions: Mapping[str, AuditedDeletion], record: Record) -> Iterator[AuditedDeletion]:
    """The deletions that a record is about, after it."""
    match record.kind:
        case "erased":
            for erased in ErasedBody.all_from(record):
                deletion = deletions[erased.id]
                yield replace(deletion, erased=record, clusters=erased.clusters, receipt=erased.receipt)
        case "completed":
            for completed in CompletedBody.all_from(record):
                yield replace(deletions[completed.id], completed=record, receipt=completed.receipt)
        case "approved" | "declined":
            for deletion_id in deletions_of(record):
                yield replace(deletions[deletion_id], accepted_at=record.at, decision=record)
        case _:
            for deletion_id in deletions_of(record):
                yield replace(deletions[deletion_id], failed=record if record.kind == "failed" else None)
