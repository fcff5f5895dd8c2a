"""The verifier that knows the formats alone: it agrees with the system about receipts, ids and the log."""

from __future__ import annotations

import ast
import copy
import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import verify_receipt as verifier
from small_system import System

from lmeraser.deletion import DeletionRequest
from lmeraser.hashing import canonical_json
from lmeraser.proof.receipts import covers
from lmeraser.state.keys import load_hash_key, load_signing_key
from lmeraser.state.log import Log
from lmeraser.store import LocalStore

FILE = Path(verifier.__file__)
SystemOf = Callable[..., System]


class Evidence(NamedTuple):
    """A system's receipts and what its log shows, both as they are in files, and its folder of keys."""

    receipts: list[dict[str, Any]]
    log: dict[str, Any]
    keys: Path


@pytest.fixture(scope="module")
def evidence(built: Callable[[str, int], System], tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    original = built("minute", 30)
    folder = tmp_path_factory.mktemp("evidence") / "store"
    shutil.copytree(original.store.uri, folder)
    system = replace(original, store=LocalStore(folder))
    coordinator = system.coordinator()
    coordinator.approvals.require(True)
    requests = [("s3",), ("s5", "s6", "nobody")]
    ids = [
        coordinator.delete(DeletionRequest(samples, subjects, by="Clerk")).id
        for samples, subjects in zip(requests, ((), ("u12",)), strict=True)
    ]
    for each in ids:
        coordinator.approvals.approve(each, "officer")
    while coordinator.step():
        pass
    receipts = [json.loads(canonical_json(coordinator.receipt(each))) for each in ids]
    log = json.loads(json.dumps({"records": [asdict(record) for record in Log(system.store).advance()]}))
    return Evidence(receipts, log, system.keys)


def test_it_needs_python_and_cryptography_alone() -> None:
    nodes = list(ast.walk(ast.parse(FILE.read_text())))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} - sys.stdlib_module_names == {"cryptography"}
    assert len(FILE.read_text().splitlines()) <= 500


def test_receipts_of_the_system_are_valid_and_in_its_log(evidence: Evidence) -> None:
    key = load_signing_key(evidence.keys).public_key()
    for receipt in evidence.receipts:
        assert verifier.verify(canonical_json(receipt), key) == receipt
        assert receipt["completed"] is not None
        verifier.check_in_log(receipt, verifier.check_log(evidence.log))


def test_both_verifiers_agree_on_which_ids_are_covered(evidence: Evidence) -> None:
    hash_key = load_hash_key(evidence.keys)
    secret = bytes.fromhex((evidence.keys / "hash.key").read_text().strip())
    answers = []
    for receipt in evidence.receipts:
        for name in ("s3", "s4", "s5", "u12", "nobody", "u1"):
            answers.append(verifier.is_covered(receipt, secret, name))
            assert answers[-1] == covers(receipt, hash_key, name)
    assert True in answers and False in answers
    with pytest.raises(verifier.InvalidError, match="hash key is not the one"):
        verifier.is_covered(evidence.receipts[0], bytes(32), "s3")


def first(log: dict[str, Any], kind: str) -> dict[str, Any]:
    record: dict[str, Any] = next(record for record in log["records"] if record["kind"] == kind)
    return record


def chain_again(log: dict[str, Any]) -> None:
    """What a forger with the whole log would do: make all digests fit."""
    previous = "0" * 64
    for record in log["records"]:
        record["previous"] = previous
        fields = ("number", "kind", "term", "previous", "at", "body")
        record["digest"] = previous = hashlib.sha256(
            verifier.canonical({name: record[name] for name in fields})
        ).hexdigest()


LIES_OF_A_LOG: dict[str, tuple[Callable[[dict[str, Any]], Any], bool, str]] = {
    "changed": (lambda log: first(log, "erased")["body"]["deletions"][0].update(rows=9), False, "was changed"),
    "cut in the middle": (lambda log: log["records"].pop(3), False, "log record 4 is missing: found 5"),
    "exchanged": (lambda log: log["records"].reverse(), False, "log record 1 is missing"),
    "of another chain": (lambda log: log["records"][1].update(previous="0" * 64), False, "was changed"),
    "without a body": (lambda log: log["records"][2].pop("body"), False, "lacks a field"),
    "no list": (lambda log: log.update(records={}), False, "no list of records"),
    "cut at the end": (lambda log: log["records"].__delitem__(slice(4, None)), False, "the log has no request"),
    "back in time": (
        lambda log: log["records"][-1].update(at="2020-01-01T00:00:00.000+00:00"),
        True,
        "is dated 2020-01-01",
    ),
    "other rows": (lambda log: first(log, "erased")["body"]["deletions"][0].update(rows=9), True, "that rows of"),
    "other time": (
        lambda log: first(log, "erased")["body"]["deletions"][0].update(at="2020-01-01T00:00:00.000+00:00"),
        True,
        "that at of the erasure",
    ),
    "other clusters": (
        lambda log: first(log, "erased")["body"]["deletions"][0].update(clusters=["x"]),
        True,
        "that clusters of",
    ),
    "never erased": (lambda log: first(log, "erased")["body"].update(deletions=[]), True, "does not say that"),
    "never requested": (lambda log: first(log, "request")["body"].update(deletions=[]), True, "the log has no request"),
    "approved by whoever requested it": (
        lambda log: [each.update(by=" clerk") for each in first(log, "approved")["body"]["deletions"]],
        True,
        "was approved by 'Clerk', who requested it",
    ),
    "never approved": (lambda log: first(log, "approved")["body"].update(deletions=[]), True, "was approved"),
    "declined": (
        lambda log: first(log, "approved").update(kind="declined"),
        True,
        "does not say that",
    ),
    "another state": (
        lambda log: [each["body"].update(root="0" * 64) for each in log["records"] if each["kind"] == "commit"],
        True,
        "is another one in the log",
    ),
    "no commit": (
        lambda log: [each.update(kind="note") for each in log["records"] if each["kind"] == "commit"],
        True,
        "the log has no commit",
    ),
    "a commit that erases nothing": (
        lambda log: [each["body"].update(erasures=[]) for each in log["records"] if each["kind"] == "commit"],
        True,
        "does not erase rows of",
    ),
}


@pytest.mark.parametrize("lie", LIES_OF_A_LOG)
def test_a_log_that_says_otherwise_is_refused_and_the_fault_named(evidence: Evidence, lie: str) -> None:
    change, all_digests_fit, message = LIES_OF_A_LOG[lie]
    log = copy.deepcopy(evidence.log)
    change(log)
    if all_digests_fit:
        chain_again(log)
    with pytest.raises(verifier.InvalidError, match=message):
        verifier.check_in_log(evidence.receipts[0], verifier.check_log(log))


def test_the_command_says_what_is_so(evidence: Evidence, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "receipt.json").write_bytes(canonical_json(evidence.receipts[0]))
    (tmp_path / "log.json").write_text(json.dumps(evidence.log))
    (tmp_path / "gone.txt").write_text("s3\n")
    (tmp_path / "others.txt").write_text("s3\ns4\n")
    receipt = [str(tmp_path / "receipt.json"), "--public-key", str(evidence.keys / "signing-key.pub.pem")]
    ids = ["--hash-key", str(evidence.keys / "hash.key"), "--ids-file"]
    assert verifier.main([*receipt, "--log", str(tmp_path / "log.json"), *ids, str(tmp_path / "gone.txt")]) == 0
    assert capsys.readouterr().out.startswith("valid: 1 rows were erased")
    assert verifier.main([*receipt, *ids, str(tmp_path / "others.txt")]) == 1
    assert "not covered: s4" in capsys.readouterr().out
    (tmp_path / "receipt.json").write_bytes(canonical_json({**evidence.receipts[0], "rows": 2}))
    assert verifier.main(receipt) == 1
    assert "not valid: the receipt's signature" in capsys.readouterr().out
    assert verifier.main([str(tmp_path / "nowhere"), *receipt[1:]]) == 2
