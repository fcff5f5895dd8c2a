"""Checks a receipt of an erasure, by docs/reference/receipt-format.md, without any code of the system that wrote it.

    python verify_receipt.py receipt.json --public-key signing-key.pub.pem [--log log.json]
                             [--hash-key hash.key --ids-file gone.txt]

Exit code 0: valid. 1: not valid, or an id is not covered. 2: a file cannot be read.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

_FORMAT = 1
_HASH = re.compile(r"[0-9a-f]{64}")


class InvalidError(Exception):
    """Raised when a receipt or a log is not valid; the message names the first fault."""


def verify(data: bytes, key: Ed25519PublicKey) -> dict[str, Any]:
    """The receipt in these bytes, if it is valid. Raises InvalidError."""
    receipt = parse(data)
    _check_signature(receipt, key)
    number = receipt.get("format")
    if number != _FORMAT or isinstance(number, bool):
        raise InvalidError(f"the receipt has format {number!r}; this program reads format {_FORMAT}")
    _check_fields(receipt)
    for fault in (*_faults_in_time(receipt), *_faults_in_counts(receipt), *_faults_in_change(receipt)):
        raise InvalidError(f"the receipt contradicts itself: {fault}")
    for side in ("before", "after"):
        for path in receipt[side]["rows"]:
            if _root_of(path) != receipt[side]["root"]:
                raise InvalidError(f"the Merkle path of {path['name']} {side} does not lead to the state root")
    return receipt


def parse(data: bytes) -> dict[str, Any]:
    """A JSON object without repeated keys and without numbers that are none. Raises InvalidError."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name in names:
            if names.count(name) > 1:
                raise InvalidError(f"it has the key {name!r} twice")
        return dict(pairs)

    def refuse(text: str) -> None:
        raise InvalidError(f"{text} is not a JSON number")

    try:
        value = json.loads(data, object_pairs_hook=once, parse_constant=refuse)
    except RecursionError:
        raise InvalidError("its JSON is nested too deep") from None
    except ValueError as error:
        raise InvalidError(f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidError("it is not a JSON object")
    return value


def canonical(value: Any) -> bytes:
    """Canonical JSON. Raises ValueError for numbers that JSON does not have."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


# The signature.


def _check_signature(receipt: dict[str, Any], key: Ed25519PublicKey) -> None:
    signed = {name: value for name, value in receipt.items() if name != "signature"}
    try:
        key.verify(bytes.fromhex(str(receipt.get("signature", ""))), canonical(signed))
    except (InvalidSignature, ValueError, RecursionError):
        raise InvalidError("the receipt's signature is not valid under this public key") from None


# The fields.

_Check = Callable[[Any, str], None]


def _invalid(where: str, what: str) -> InvalidError:
    return InvalidError(f"the receipt's {where} is not valid: {what}")


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise _invalid(where, "text is needed")


def _hash(value: Any, where: str) -> None:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise _invalid(where, "64 lower-case hexadecimal digits are needed")


def _whole(value: Any, where: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _invalid(where, "a whole number is needed")


def _count(value: Any, where: str) -> None:
    _whole(value, where)
    if value < 0:
        raise _invalid(where, "it is below 0")


def _mapping(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise _invalid(where, "an object is needed")


def _or_null(check: _Check) -> _Check:
    return lambda value, where: None if value is None else check(value, where)


def _list_of(check: _Check) -> _Check:
    def checked(value: Any, where: str) -> None:
        if not isinstance(value, list):
            raise _invalid(where, "a list is needed")
        for number, item in enumerate(value):
            check(item, f"{where}.{number}")

    return checked


def _object_of(**fields: _Check) -> _Check:
    def checked(value: Any, where: str) -> None:
        _mapping(value, where)
        for name, check in fields.items():
            inner = f"{where}.{name}" if where else name
            if name not in value:
                raise _invalid(inner, "Field required")
            check(value[name], inner)

    return checked


def _sibling(value: Any, where: str) -> None:
    if not isinstance(value, list) or len(value) != 2:
        raise _invalid(where, "a pair is needed")
    if value[0] not in ("left", "right"):
        raise _invalid(f"{where}.0", "left or right is needed")
    _hash(value[1], f"{where}.1")


_PATH = _object_of(name=_text, leaf=_hash, siblings=_list_of(_sibling))
_SIDE = _object_of(log=_whole, root=_hash, rows=_list_of(_PATH))
_check_receipt = _object_of(
    deletion=_text,
    store=_text,
    key_check=_hash,
    samples=_list_of(_hash),
    subjects=_list_of(_hash),
    rows=_count,
    unknown=_count,
    accepted_at=_text,
    erased_at=_text,
    completed_at=_or_null(_text),
    clusters=_list_of(_text),
    before=_SIDE,
    after=_SIDE,
    completed=_or_null(_object_of(log=_whole, root=_hash)),
    fingerprint=_mapping,
    code=_text,
)


def _check_fields(receipt: dict[str, Any]) -> None:
    _check_receipt(receipt, "")


# What fields say of each other.


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidError(f"the receipt has the time {text!r}; allowed is ISO 8601 with an offset")
    return moment


def _faults_in_time(receipt: dict[str, Any]) -> Iterator[str]:
    accepted, erased, completed_at = (receipt[name] for name in ("accepted_at", "erased_at", "completed_at"))
    completed, after = receipt["completed"], receipt["after"]
    if _moment(erased) < _moment(accepted):
        yield f"erased at {erased}, before it was accepted at {accepted}"
    if (completed_at is None) != (completed is None):
        yield "it has a time of completion without a commit, or a commit without a time"
    if completed_at is not None and _moment(completed_at) < _moment(erased):
        yield f"completed at {completed_at}, before it was erased at {erased}"
    if completed is not None and completed["log"] < after["log"]:
        yield f"completed by commit {completed['log']}, which is older than {after['log']}, which erased"
    if completed is not None and completed["log"] == after["log"] and completed["root"] != after["root"]:
        yield f"completed and erased by commit {after['log']}, but with different state roots"


def _faults_in_counts(receipt: dict[str, Any]) -> Iterator[str]:
    rows, samples, subjects, clusters = (receipt[name] for name in ("rows", "samples", "subjects", "clusters"))
    if rows > len(samples):
        yield f"{rows} rows, but {len(samples)} sample hashes"
    if len(samples) < len(subjects):
        yield f"{len(samples)} sample hashes of {len(subjects)} subjects"
    if bool(rows) != bool(clusters):
        yield f"{rows or 'no'} rows were erased, but {len(clusters) or 'no'} clusters held them"
    for what, named in (("sample hash", samples), ("subject", subjects), ("cluster", clusters)):
        seen: set[str] = set()
        for each in named:
            if each in seen:
                yield f"it has the {what} {each} twice"
            seen.add(each)


def _faults_in_change(receipt: dict[str, Any]) -> Iterator[str]:
    before, after = receipt["before"], receipt["after"]
    expected = {f"rows/{cluster}" for cluster in receipt["clusters"]}
    leaves_before = {path["name"]: path["leaf"] for path in before["rows"]}
    leaves_after = {path["name"]: path["leaf"] for path in after["rows"]}
    if set(leaves_before) != expected or not set(leaves_after) <= expected:
        yield "its Merkle paths are not those of its clusters"
    if not expected:
        return
    if before["root"] == after["root"] or before["log"] >= after["log"]:
        yield "rows were erased, but the state after is not a different and later one"
    for name, leaf in leaves_after.items():
        if leaves_before.get(name) == leaf:
            yield f"rows of {name} were erased, but they are the same before and after"


def _root_of(path: dict[str, Any]) -> str:
    digest = hashlib.sha256(b"\x00" + canonical([path["name"], path["leaf"]])).digest()
    for side, sibling in path["siblings"]:
        other = bytes.fromhex(sibling)
        left, right = (other, digest) if side == "left" else (digest, other)
        digest = hashlib.sha256(b"\x01" + left + right).digest()
    return digest.hex()


# Which ids are covered.


def keyed_hash(key: bytes, *values: str) -> str:
    """HMAC-SHA256 of the values."""
    return hmac.digest(key, canonical(list(values)), "sha256").hex()


def is_covered(receipt: dict[str, Any], key: bytes, identifier: str) -> bool:
    """Whether the receipt covers this sample or subject. Raises InvalidError when the key is another one."""
    if keyed_hash(key, "receipt", receipt["deletion"]) != receipt["key_check"]:
        raise InvalidError("the hash key is not the one that this receipt was written under")
    name = unicodedata.normalize("NFC", identifier)
    in_samples = keyed_hash(key, "sample", name) in receipt["samples"]
    return in_samples or keyed_hash(key, "subject", name) in receipt["subjects"]


# The log.


def check_log(log: dict[str, Any]) -> list[dict[str, Any]]:
    """The records of an exported log, if its chain holds. Raises InvalidError."""
    records = log.get("records")
    if not isinstance(records, list):
        raise InvalidError("the log has no list of records")
    previous, at = "0" * 64, ""
    for number, record in enumerate(records, start=1):
        fields = ("number", "kind", "term", "previous", "at", "body")
        if not isinstance(record, dict) or any(name not in record for name in (*fields, "digest")):
            raise InvalidError(f"log record {number} lacks a field")
        if record["number"] != number:
            raise InvalidError(f"log record {number} is missing: found {record['number']} in its place")
        if hashlib.sha256(canonical({name: record[name] for name in fields})).hexdigest() != record["digest"]:
            raise InvalidError(f"log record {number} was changed: its digest is not that of its content")
        if record["previous"] != previous:
            raise InvalidError(f"log record {number} does not follow record {number - 1}: one of the two was changed")
        if at and _moment(record["at"]) < _moment(at):
            raise InvalidError(f"log record {number} is dated {record['at']}, before the previous record's {at}")
        previous, at = record["digest"], record["at"]
    return records


def check_in_log(receipt: dict[str, Any], records: list[dict[str, Any]]) -> None:
    """Check that the log says what the receipt says. Raises InvalidError."""
    deletion = receipt["deletion"]
    requests = _about(records, "request", deletion)
    if not requests:
        raise InvalidError(f"the log has no request {deletion}")
    if requests[0].get("awaits_approval"):
        _check_approved(records, requests[0])
    for side in ("before", "after", "completed"):
        if receipt[side] is not None:
            _check_commit(records, side, receipt[side])
    erasures = records[receipt["after"]["log"] - 1]["body"]["erasures"]
    if deletion not in [each["id"] for each in erasures]:
        raise InvalidError(f"commit {receipt['after']['log']} does not erase rows of {deletion}")
    erased = _about(records, "erased", deletion)
    if not erased:
        raise InvalidError(f"the log does not say that {deletion} is erased")
    for name, said in (
        ("rows", receipt["rows"]),
        ("unknown", receipt["unknown"]),
        ("clusters", receipt["clusters"]),
        ("at", receipt["erased_at"]),
    ):
        if erased[-1][name] != said:
            raise InvalidError(f"the log says that {name} of the erasure is {erased[-1][name]}, the receipt {said}")
    if receipt["completed"] is not None:
        completed = _about(records, "completed", deletion)
        if not completed or completed[-1]["at"] != receipt["completed_at"]:
            raise InvalidError(f"the log does not say that {deletion} was completed at {receipt['completed_at']}")


def _check_approved(records: list[dict[str, Any]], request: dict[str, Any]) -> None:
    """Check that somebody else than its requester approved a deletion, and nobody declined it."""
    approved = _about(records, "approved", request["id"])
    if not approved or _about(records, "declined", request["id"]):
        raise InvalidError(f"the log does not say that {request['id']} was approved")
    if _name(approved[0]["by"]) == _name(request["by"]):
        raise InvalidError(f"the log says that {request['id']} was approved by {request['by']!r}, who requested it")


def _name(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip().casefold()


def _about(records: list[dict[str, Any]], kind: str, deletion: str) -> list[dict[str, Any]]:
    """What records of this kind say about a deletion."""
    bodies = (each for record in records if record["kind"] == kind for each in record["body"]["deletions"])
    return [each for each in bodies if each["id"] == deletion]


def _check_commit(records: list[dict[str, Any]], side: str, state: dict[str, Any]) -> None:
    number = state["log"]
    record = records[number - 1] if 1 <= number <= len(records) else None
    if record is None or record["kind"] != "commit":
        raise InvalidError(f"the log has no commit {number}, which the receipt names under {side}")
    if record["body"]["root"] != state["root"]:
        raise InvalidError(f"the state root of commit {number} is another one in the log than under {side}")


# The command.


def main(arguments: list[str]) -> int:
    """Check what the arguments name; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("receipt", type=Path)
    parser.add_argument("--public-key", type=Path, required=True, help="PEM file of the public signing key")
    parser.add_argument("--log", type=Path, help="what `lmeraser log show --json` has printed")
    parser.add_argument("--hash-key", type=Path, help="file of the hash key, for --ids-file")
    parser.add_argument("--ids-file", type=Path, help="one id of a sample or subject per line")
    options = parser.parse_args(arguments)
    if (options.hash_key is None) != (options.ids_file is None):
        parser.error("--hash-key and --ids-file are needed together")
    try:
        key = load_pem_public_key(options.public_key.read_bytes())
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError(f"{options.public_key} does not hold an Ed25519 key")
        receipt = verify(options.receipt.read_bytes(), key)
        if options.log is not None:
            check_in_log(receipt, check_log(parse(options.log.read_bytes())))
        missing = 0
        if options.ids_file is not None:
            secret = bytes.fromhex(options.hash_key.read_text().strip())
            for line in options.ids_file.read_text(encoding="utf-8-sig").splitlines():
                if line and not is_covered(receipt, secret, line):
                    print(f"not covered: {line}")
                    missing += 1
    except InvalidError as error:
        print(f"not valid: {error}")
        return 1
    except (OSError, ValueError) as error:
        print(f"cannot check: {error}", file=sys.stderr)
        return 2
    rows, persons = receipt["rows"], len(receipt["subjects"])
    print(f"valid: {rows} rows were erased ({persons} persons named) at {receipt['erased_at']}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
