"""What the log says about the deletions that are audited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lmeraser.errors import ConfigError, LogError, NotReadyError
from lmeraser.hashing import HashKey
from lmeraser.proof.receipts import Coverage, row_hashes
from lmeraser.state.commit import ClusterEntry, Commit, Erasure
from lmeraser.state.log import Log, Record
from lmeraser.state.manifest import Manifest
from lmeraser.store import Store

_NOTHING = Erasure("")


@dataclass(frozen=True)
class AuditedDeletion:
    """One deletion.

    Attributes:
        request: the record that accepted it.
        before, after: the commit that erased its rows and the one that it was made from; None while only accepted.
        erasure: what it came to in that commit; nothing while only accepted.
        erased, completed, failed: the newest record of each kind.
    """

    request: Record
    before: Commit | None = None
    after: Commit | None = None
    erasure: Erasure = _NOTHING
    erased: Record | None = None
    completed: Record | None = None
    failed: Record | None = None

    @property
    def id(self) -> str:
        """The deletion's id."""
        return str(self.request.body["id"])

    @property
    def coverage(self) -> Coverage:
        """What it covers."""
        return Coverage.of(self.request.body, self.erasure)

    @property
    def samples(self) -> frozenset[str]:
        """Keyed hashes of the rows that it covers."""
        return frozenset(self.coverage.samples)

    @property
    def hashes(self) -> frozenset[str]:
        """Keyed hashes of the rows that it covers, and of all samples and subjects that it named."""
        body = self.request.body
        return self.samples.union(self.coverage.subjects, body["unknown_samples"], body["unknown_subjects"])

    @property
    def status(self) -> str:
        """How far it has come."""
        if self.completed is not None:
            return "completed"
        if self.failed is not None:
            return "failed"
        return "accepted" if self.erased is None else "erased"


@dataclass(frozen=True)
class Evidence:
    """A store as its log describes it.

    Attributes:
        store, manifest: where it lies and what it is.
        hash_key: the key of its hashes.
        public_key: the key that its receipts are signed with.
        records: the whole log.
        commits: by record number.
        commit: the newest.
        everything: all deletions of the log, by id.
        asked: those that are audited.
    """

    store: Store
    manifest: Manifest
    hash_key: HashKey
    public_key: Ed25519PublicKey
    records: tuple[Record, ...]
    commits: Mapping[int, Commit]
    commit: Commit
    everything: Mapping[str, AuditedDeletion]
    asked: tuple[AuditedDeletion, ...]

    def touched(self) -> tuple[ClusterEntry, ...]:
        """The clusters of the newest commit that hold what the touched clusters held."""
        left = [
            entry
            for one in self.asked
            if one.before is not None
            for key in one.erasure.clusters
            if (entry := one.before.entry(key)) is not None
        ]
        anchors = {anchor for entry in left for anchor in entry.anchors}
        return tuple(entry for entry in self.commit.clusters if not anchors.isdisjoint(entry.anchors))

    def covers(self, sample_id: str, subject_id: str | None) -> bool:
        """Whether an audited deletion names this sample or its subject."""
        hashes = row_hashes(self.hash_key, sample_id, subject_id)
        return any(not hashes.isdisjoint(one.hashes) for one in self.asked)


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
        LogError: when the chain is broken, a commit's root is not that of its leaves, or a term goes on from no commit.
        NotReadyError: when nothing was ever committed.
    """
    records = tuple(Log(store).advance())
    commits: dict[int, Commit] = {}
    everything: dict[str, AuditedDeletion] = {}
    newest: Commit | None = None
    origin: Commit | None = None
    for record in records:
        if record.kind == "commit":
            newest = Commit.from_record(record)
            commits[record.number] = newest
            for erasure in newest.erasures:
                one = everything[erasure.id]
                everything[erasure.id] = replace(one, before=origin or newest, after=newest, erasure=erasure)
            origin = newest
        elif record.kind == "request":
            everything[str(record.body["id"])] = AuditedDeletion(record)
        elif record.kind == "term":
            # A restore goes on from an earlier commit.
            origin = _commit_at(commits, record) if "base" in record.body else origin
        elif record.kind != "attempt":
            everything[record.body["id"]] = _followed(everything[record.body["id"]], record)
    if newest is None:
        raise NotReadyError("the store holds no commit: ingest rows first")
    manifest.check_hash_key(newest.fixed_leaves, hash_key)
    unknown = [name for name in requests if name not in everything]
    if unknown:
        raise ConfigError(f"no deletion has the id {unknown[0]!r}; `lmeraser deletions list` names them")
    asked = tuple(everything[name] for name in dict.fromkeys(requests))
    return Evidence(store, manifest, hash_key, public_key, records, commits, newest, everything, asked)


def _commit_at(commits: Mapping[int, Commit], term: Record) -> Commit:
    """The commit that a term goes on from."""
    base = term.body["base"]
    if base not in commits:
        raise LogError(f"log record {term.number} goes on from record {base}, which is no commit before it")
    return commits[base]


def _followed(one: AuditedDeletion, record: Record) -> AuditedDeletion:
    """The deletion after one more record about it."""
    match record.kind:
        case "erased":
            return replace(one, erased=record)
        case "completed":
            return replace(one, completed=record)
        case "failed":
            return replace(one, failed=record)
        case _:
            return replace(one, failed=None)
