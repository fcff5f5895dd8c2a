"""Signed receipts with one fault each: the files in ``receipts/``, signed with a key of their own.

An operator who has the signing key could issue them, or a faulty program.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import verify_receipt as second_verifier

from lmeraser.errors import ReceiptError
from lmeraser.proof.receipt_content import parse_receipt
from lmeraser.proof.receipts import verify_receipt
from lmeraser.state.keys import parse_public_pem

FOLDER = Path(__file__).parent / "receipts"
KEY = parse_public_pem((FOLDER / "signing-key.pub.pem").read_bytes())
# What a verifier says, or a part of it.
FAULTS = {
    "erased-before-accepted": "before it was accepted",
    "completed-before-erased": "before it was erased",
    "completed-without-a-commit": "without a commit",
    "completed-by-an-older-commit": "commit 4, which is older than 5",
    "time-without-offset": "2026-11-27T10:00:00'; allowed is ISO 8601 with an offset",
    "no-time": "'yesterday'",
    "format-of-the-future": "format 99; this program reads format 1",
    "no-format": "format None",
    "without-before": "before is not valid: Field required",
    "without-store": "store is not valid: Field required",
    "without-rows": "rows is not valid: Field required",
    "rows-as-text": "rows is not valid",
    "negative-unknown": "unknown is not valid",
    "sample-that-is-no-hash": "samples.0 is not valid",
    "more-rows-than-samples": "200 rows, but 2 sample hashes",
    "after-as-before": "not a different and later one",
    "after-older-than-before": "not a different and later one",
    "rows-unchanged": "rows/02 were erased, but they are the same",
    "no-paths": "not those of its clusters",
    "paths-of-another-cluster": "not those of its clusters",
    "path-to-another-root": "rows/00 after does not lead to the state root",
    "clusters-without-rows": "no rows were erased, but 2 clusters held them",
    "key-twice": "the key 'erased_at' twice",
    "key-twice-within": "the key 'log' twice",
    "not-a-number": "NaN",
    "infinite": "Infinity",
    "sample-twice": "the sample hash 60784f11267185cc427f711738371b2cd172127f35ed00d7e2083eee17235284 twice",
    "subject-twice": "the subject f398c3c36eac113645cc43c19c8b9162b49b8c28aeff1c4c76141b47600bc384 twice",
    "cluster-twice": "the cluster 02 twice",
    "more-subjects-than-samples": "2 sample hashes of 3 subjects",
    "rows-without-clusters": "2 rows were erased, but no clusters held them",
    "two-states-of-one-commit": "completed and erased by commit 5, but with different state roots",
    "path-from-another-root": "rows/00 before does not lead to the state root",
    "one-path-too-many": "not those of its clusters",
    "path-after-of-another-cluster": "not those of its clusters",
    "siblings-on-the-other-side": "rows/00 after does not lead to the state root",
    "sibling-left-out": "rows/02 after does not lead to the state root",
    "sibling-above": "before.rows.0.siblings.0.0 is not valid",
    "leaf-in-capitals": "before.rows.0.leaf is not valid",
    "short-root": "after.root is not valid",
    "rows-as-truth": "the receipt's rows is not valid",
    "rows-as-fraction": "the receipt's rows is not valid",
    "rows-null": "the receipt's rows is not valid",
    "completed-without-a-time": "a commit without a time",
    "clusters-as-text": "the receipt's clusters is not valid",
    "fingerprint-as-list": "the receipt's fingerprint is not valid",
    "without-key-check": "key_check is not valid: Field required",
    "without-erased-at": "erased_at is not valid: Field required",
    "without-completed": "completed is not valid: Field required",
    "format-as-text": "format '1'",
    "format-as-truth": "format True",
    "day-without-time": "the time '2026-11-27'; allowed is ISO 8601 with an offset",
    "before-and-after-exchanged": "not a different and later one",
    "list-of-receipts": "JSON object",
    "signed-with-another-key": "signature is not valid",
    "changed-after-signing": "signature is not valid",
    "unsigned": "signature is not valid",
}


def test_every_file_is_tried() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {"holds", *FAULTS}


def test_the_original_receipt_is_valid_and_says_what_it_is_about() -> None:
    summary = verify_receipt(parse_receipt((FOLDER / "holds.json").read_bytes()), KEY)
    assert (summary.deletion, summary.store, summary.rows, summary.subjects, summary.unknown, summary.clusters) == (
        *("d-1", "store-1"),
        *(2, 1, 1, 2),
    )
    assert (summary.accepted_at, summary.erased_at, summary.completed_at) == (
        "2026-11-27T10:00:00.000+00:00",
        "2026-11-27T10:00:01.000+00:00",
        "2026-11-27T11:00:05.000+01:00",
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_refused_and_named_alike_by_both_verifiers(fault: str) -> None:
    data = (FOLDER / f"{fault}.json").read_bytes()
    with pytest.raises(ReceiptError) as refused:
        verify_receipt(parse_receipt(data), KEY)
    with pytest.raises(second_verifier.InvalidError) as refused_too:
        second_verifier.verify(data, KEY)
    for message in (str(refused.value), str(refused_too.value)):
        assert FAULTS[fault] in message
        # Otherwise it would be a signature that no longer holds, and not the content, that is refused.
        assert ("signature" in message) == ("signature" in FAULTS[fault])


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' + b"[" * 900 + b"]" * 900 + b"}",
        b"\xff\xfe\x00",
        b"7",
        b"",
        b'{"a":1e999}',
    ],
    ids=["lists", "objects", "deep", "bytes", "number", "empty", "infinite"],
)
def test_data_that_is_not_a_receipt_is_refused(data: bytes) -> None:
    with pytest.raises(ReceiptError):
        verify_receipt(parse_receipt(data), KEY)
