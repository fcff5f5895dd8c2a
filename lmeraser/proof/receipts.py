"""Receipts: signed statements that rows were erased, which anyone can check without the system.

A receipt is a JSON object with a ``signature``: Ed25519 (RFC 8032) over the canonical JSON of all other fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from lmeraser.errors import KeysError, ReceiptError
from lmeraser.hashing import HashKey, sample_hash, subject_hash
from lmeraser.proof.receipt_content import FORMAT, ReceiptSummary, read_content
from lmeraser.state.commit import Commit, Erasure
from lmeraser.state.layout import rows_part
from lmeraser.state.manifest import Manifest
from lmeraser.state.merkle import MerklePath, MerkleTree
from lmeraser.state.record_bodies import RequestBody
from lmeraser.state.signatures import is_signed


def key_check(hash_key: HashKey, deletion_id: str) -> str:
    """A keyed hash in a receipt that identifies the hash key under which it was written."""
    return hash_key.of("receipt", deletion_id)


@dataclass(frozen=True)
class Coverage:
    """What a deletion covers once its rows are erased.

    Attributes:
        samples, subjects: keyed hashes of the rows, and of the named subjects that had rows; including those that an
            earlier deletion erased while this one waited.
        rows: how many rows it erased itself.
        unknown: how many of its ids matched no row.
    """

    samples: tuple[str, ...]
    subjects: tuple[str, ...]
    rows: int
    unknown: int

    @staticmethod
    def of(request: RequestBody, erasure: Erasure) -> Coverage:
        """Combine the record of the request with the erasure in the commit that left its rows out."""
        unknown = {*request.unknown_samples, *request.unknown_subjects}
        return Coverage(
            (*request.samples, *erasure.samples),
            (*request.subjects, *erasure.subjects),
            erasure.rows,
            len(unknown.difference(erasure.samples, erasure.subjects)),
        )


def statement(
    manifest: Manifest,
    hash_key: HashKey,
    deletion_id: str,
    coverage: Coverage,
    times: tuple[str, str],
    sides: Mapping[str, Any],
) -> dict[str, Any]:
    """An unsigned receipt at "erased".

    Args:
        manifest, hash_key: of the store.
        deletion_id: of the deletion.
        coverage: what it covers.
        times: when it was accepted and when it was erased, ISO 8601, UTC.
        sides: "clusters", "before" and "after", from :func:`sides`.
    """
    return {
        "format": FORMAT,
        "deletion": deletion_id,
        "store": manifest.store_id,
        "key_check": key_check(hash_key, deletion_id),
        "samples": list(coverage.samples),
        "subjects": list(coverage.subjects),
        "rows": coverage.rows,
        "unknown": coverage.unknown,
        "accepted_at": times[0],
        "erased_at": times[1],
        "completed_at": None,
        **sides,
        "completed": None,
        "fingerprint": dict(manifest.fingerprint),
        "code": version("lmeraser"),
    }


def sides(before: Commit, after: Commit, clusters: tuple[str, ...]) -> dict[str, Any]:
    """The commits before and after an erasure, as a receipt describes them.

    Args:
        before, after: the last commit with the rows, and the first one without them.
        clusters: keys of the clusters that held the rows.

    Returns:
        "clusters", and under "before" and "after" each commit's number, its root, and the Merkle paths of those of
        these clusters that it has.
    """
    return {"clusters": list(clusters), "before": _side(before, clusters), "after": _side(after, clusters)}


def _side(commit: Commit, clusters: tuple[str, ...]) -> dict[str, Any]:
    return {"log": commit.number, "root": commit.root, "rows": row_paths(commit.tree, clusters)}


def row_paths(tree: MerkleTree, clusters: tuple[str, ...]) -> list[dict[str, Any]]:
    """Merkle paths of the rows of those of these clusters that the state has."""
    paths = (tree.path(rows_part(key)) for key in clusters)
    return [asdict(path) for path in paths if path is not None]


def verify_receipt(receipt: Mapping[str, Any], key: Ed25519PublicKey) -> ReceiptSummary:
    """Check the signature, the consistency of the content, and the Merkle paths.

    Returns:
        What the receipt says. A valid receipt may say that nothing was erased.

    Raises:
        ReceiptError: when one of the checks fails; the message says which.
    """
    if not is_signed(receipt, key):
        raise ReceiptError("the receipt's signature is not valid under this public key")
    summary = read_content(receipt)
    for side in ("before", "after"):
        state = receipt[side]
        for path in state["rows"]:
            siblings = tuple((where, digest) for where, digest in path["siblings"])
            if MerklePath(path["name"], path["leaf"], siblings).root() != state["root"]:
                raise ReceiptError(f"the Merkle path of {path['name']} {side} does not lead to the state root")
    return summary


def covers(receipt: Mapping[str, Any], hash_key: HashKey, identifier: str) -> bool:
    """Whether the receipt covers this sample id or subject id.

    Raises:
        KeysError: when the receipt was written under another hash key, so that there is no answer.
    """
    if receipt.get("key_check") != key_check(hash_key, receipt["deletion"]):
        raise KeysError(
            "the hash key is not the one that this receipt was written under, so coverage cannot be checked"
        )
    return (
        sample_hash(hash_key, identifier) in receipt["samples"]
        or subject_hash(hash_key, identifier) in receipt["subjects"]
    )
