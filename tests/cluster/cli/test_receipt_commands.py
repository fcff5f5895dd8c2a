"""Receipts on the command line: which verify, and which ids they cover."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Run
from commits import receipts_of
from deletion_case import Case

from lmeraser.state.keys import init_keys


@pytest.fixture
def receipt(lmeraser: Run, case: Case, tmp_path: Path) -> Path:
    file = tmp_path / "receipt.json"
    file.write_text(lmeraser("receipt", "show", case.completed, "--store", case.system.store.uri).out)
    return file


def test_a_receipt_verifies_under_the_public_key(lmeraser: Run, case: Case, receipt: Path) -> None:
    stored = json.loads(case.system.store.get(receipts_of(case.system.store)[case.completed][-1]))
    times = ("accepted_at", "erased_at", "completed_at")
    expected = {name: stored[name] for name in ("deletion", "store", "rows", "unknown", *times)}
    expected |= {"covered": 2, "rows": 2, "subjects": 1, "clusters": len(stored["clusters"])}
    public = case.system.keys / "signing-key.pub.pem"
    shown = lmeraser("receipt", "verify", receipt, "--public-key", public, "--json")
    assert (shown.code, shown.json) == (0, {**expected, "valid": True})
    ask = ("receipt", "verify", receipt, "--public-key", public)
    for value in map(str, expected.values()):
        assert value in lmeraser(*ask).out
    assert lmeraser(*ask, "--store-id", stored["store"]).code == 0
    lmeraser(*ask, "--store-id", "another").failed(1, f"of store {stored['store']}, not of another")


def test_a_receipt_is_asked_about_ids_in_a_file(lmeraser: Run, case: Case, receipt: Path, tmp_path: Path) -> None:
    keys = case.system.keys
    (tmp_path / "samples").write_text("s3\n")
    (tmp_path / "subjects").write_bytes(b"\xef\xbb\xbfu40\r\n")
    ask = ("receipt", "verify", receipt, "--public-key", keys / "signing-key.pub.pem", "--keys", keys)
    both = ("--ids-file", tmp_path / "samples", "--subjects-file", tmp_path / "subjects", "--json")
    assert {name: lmeraser(*ask, *both).json[name] for name in ("asked", "covered")} == {"asked": 2, "covered": True}
    (tmp_path / "samples").write_text("s3\ns4\ns5\n")
    shown = lmeraser(*ask, *both)
    assert (shown.code, shown.json["covered"]) == (1, False)
    assert "does not cover 's4' and 1 more of the 4 ids" in shown.err


@pytest.mark.parametrize(("name", "code"), [("s3", 0), ("s40", 0), ("u40", 0), ("s4", 1), ("s5", 1), ("u41", 1)])
def test_a_receipt_says_whether_it_covers_an_id(lmeraser: Run, case: Case, receipt: Path, name: str, code: int) -> None:
    keys = case.system.keys
    options = ("--public-key", keys / "signing-key.pub.pem", "--keys", keys, "--json")
    shown = lmeraser("receipt", "verify", receipt, "--id", name, *options)
    assert (shown.code, shown.json["covered"]) == (code, code == 0)


def test_a_hash_key_alone_says_whom_a_receipt_covers_and_another_one_says_nothing(
    lmeraser: Run, case: Case, receipt: Path, tmp_path: Path
) -> None:
    keys = case.system.keys
    ask = ("receipt", "verify", receipt, "--public-key", keys / "signing-key.pub.pem", "--hash-key")
    shown = lmeraser(*ask, keys / "hash.key", "--id", "u40", "--json")
    assert (shown.code, shown.json["covered"]) == (0, True)
    init_keys(tmp_path / "other")
    for name in ("u40", "u41"):
        lmeraser(*ask, tmp_path / "other" / "hash.key", "--id", name).failed(1, "hash key is not the one")
    lmeraser(*ask, tmp_path / "none", "--id", "u40").failed(1, f"cannot read {tmp_path / 'none'}")
    lmeraser(*ask, keys / "hash.key").failed(2, "--id")


def test_a_receipt_fails_under_another_key(lmeraser: Run, receipt: Path, tmp_path: Path) -> None:
    init_keys(tmp_path / "other")
    shown = lmeraser("receipt", "verify", receipt, "--public-key", tmp_path / "other" / "signing-key.pub.pem")
    assert (shown.code, shown.out, "signature" in shown.err) == (1, "", True)


@pytest.mark.parametrize(
    "change",
    [
        {"erased_at": "2020-01-01T00:00:00.000+00:00"},
        {"samples": []},
        {"completed": None},
        {"signature": "00" * 64},
        {"note": "added"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_receipt_fails_once_it_is_changed(lmeraser: Run, case: Case, receipt: Path, change: dict[str, Any]) -> None:
    receipt.write_text(json.dumps({**json.loads(receipt.read_text()), **change}))
    shown = lmeraser("receipt", "verify", receipt, "--public-key", case.system.keys / "signing-key.pub.pem")
    assert (shown.code, shown.out) == (1, "")
