"""Runs an audit: reads the log, then makes one section after the other."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lmeraser.audit.controls import controls as controls_section
from lmeraser.audit.evidence import read_evidence
from lmeraser.audit.records import LOG_TITLE
from lmeraser.audit.report import Audit, Section, section
from lmeraser.audit.residue_section import unknown_ids
from lmeraser.audit.sections import Question, sections_of
from lmeraser.errors import ConfigError, LogError
from lmeraser.hashing import HashKey
from lmeraser.progress import Progress
from lmeraser.proof.recompute import worker_processes
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.store import Store


def audit(
    store: Store,
    hash_key: HashKey,
    public_key: Ed25519PublicKey,
    question: Question,
    controls: bool = False,
    processes: int = 1,
    report: Progress | None = None,
) -> Audit:
    """Audit deletions of a store.

    Args:
        store: the store.
        hash_key, public_key: its keys; the signing key is not needed.
        question: what the audit is about.
        controls: also fake deletions in copies of the store, and audit those.
        processes: how many processes retrain; 1 is this process.
        report: called as features and tunings are recomputed.

    Raises:
        ConfigError: when a deletion is unknown, or an id is in none of the deletions.
        StoreFormatError: when there is no store.
        KeysError: when the hash key is not the store's.
        NotReadyError: when nothing was ever committed.
    """
    manifest = load_manifest(store)
    try:
        evidence = read_evidence(store, manifest, hash_key, public_key, question.requests)
    except LogError as error:
        return _made(store, manifest, question, None, (section("log", LOG_TITLE, [str(error)]),))
    unknown = unknown_ids(evidence, question.ids)
    if unknown:
        raise ConfigError(f"id {unknown[0]!r} is in none of the audited deletions")
    with worker_processes(store.uri, processes) as workers:
        sections = sections_of(evidence, question, workers, report)
        if controls:
            sections += (controls_section(evidence, question.plan, workers, report),)
    return _made(store, manifest, question, evidence.commit.root, sections)


def _made(
    store: Store, manifest: Manifest, question: Question, root: str | None, sections: tuple[Section, ...]
) -> Audit:
    return Audit(
        store=store.uri,
        store_id=manifest.store_id,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        code=version("lmeraser"),
        fingerprint=dict(manifest.fingerprint),
        requests=question.requests,
        state_root=root,
        sections=sections,
    )
