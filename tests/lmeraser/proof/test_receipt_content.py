"""Signed receipts with one fault each: the files in ``receipts/``, signed with a key of their own.

An operator who has the signing key could issue them, or a faulty program.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lmeraser.errors import ReceiptError
from lmeraser.proof.receipt_content import parse_receipt
from lmeraser.proof.receipts import verify_receipt
from lmeraser.state.keys import parse_public_pem

FOLDER = Path(__file__).parent / "receipts"
KEY = parse_public_pem((FOLDER / "signing-key.pub.pem").read_bytes())
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
def test_every_fault_is_refused_and_named(fault: str) -> None:
    data = (FOLDER / f"{fault}.json").read_bytes()
    with pytest.raises(ReceiptError) as refused:
        verify_receipt(parse_receipt(data), KEY)
    assert FAULTS[fault] in str(refused.value)
    if not fault.startswith(("key-twice", "not-a-number")):
        # It is the content that is refused, and not a signature that no longer holds.
        assert "signature" not in str(refused.value)


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
