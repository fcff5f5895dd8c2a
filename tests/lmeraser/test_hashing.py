"""Canonical JSON, the bytes of RFC 8785 for all that receipts and log records contain; and keyed hashes of ids."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest

from lmeraser.hashing import HashKey, canonical_json, row_hashes, sample_hash, subject_hash
from lmeraser.state.cluster_entry import ClusterEntry, Segment
from lmeraser.state.commit import NO_HEADS, Commit, Erasure
from lmeraser.state.record_bodies import RequestBody

HASH_KEY = HashKey(bytes(range(32)))
# Section 3.2.2.2: two-character escapes where JSON has them, lower-case \u00xx for other controls, nothing else.
STRINGS = {
    'a"b\\c/d': rb'"a\"b\\c/d"',
    "\b\t\n\f\r": rb'"\b\t\n\f\r"',
    "\x00\x0b\x1f": rb'"\u0000\u000b\u001f"',
    "\x7f\x80\u2028": b'"\x7f\xc2\x80\xe2\x80\xa8"',
    "é e\u0301 € 😀": b'"\xc3\xa9 e\xcc\x81 \xe2\x82\xac \xf0\x9f\x98\x80"',
}


@pytest.mark.parametrize("text", STRINGS, ids=ascii)
def test_strings_are_escaped_as_rfc_8785_says(text: str) -> None:
    assert canonical_json(text) == STRINGS[text]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": [True, False, None], "": {}}, b'{"":{},"a":[true,false,null],"b":1}'),
        # The keys of the example in section 3.2.3 that are in the Basic Multilingual Plane, in its order.
        (
            {"€": "e", "\r": "c", "1": "1", "\x80": "x", "ö": "o"},
            rb'{"\r":"c","1":"1",' + '"\x80":"x","ö":"o","€":"e"}'.encode(),
        ),
        ([0, -1, 2**53, -(2**53)], b"[0,-1,9007199254740992,-9007199254740992]"),
        (("a", ("b",)), b'["a",["b"]]'),
    ],
)
def test_keys_are_sorted_and_integers_are_plain(value: Any, expected: bytes) -> None:
    assert canonical_json(value) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"], ids=ascii)
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"JSON compliant|surrogates"):
        canonical_json(value)


def kinds(value: Any) -> set[type]:
    """The types of all values, and of all keys."""
    if isinstance(value, dict):
        assert all(max(map(ord, key), default=0) < 0x10000 for key in value)
        return set().union(*map(kinds, value), *map(kinds, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(kinds, value))
    return {type(value)}


def test_log_records_hold_no_floats() -> None:
    segment = Segment(3, 999, "rows/00/a.parquet", "leaf", "leaf", "prompted/00/a.safetensors", "leaf")
    entry = ClusterEntry("00", (1, 2), "01", 3, (segment,), "leaf", "leaf", "leaf")
    commit = Commit((entry,), NO_HEADS, {"config": "leaf"}, (Erasure("d", remaining=True),))
    request = RequestBody("d", ("h",), (), (), (), idempotency=None, body="h", deadline=None)
    assert kinds(commit.to_body()) | kinds(request.to_body()) == {str, int, bool, type(None)}


def test_a_sample_and_a_subject_of_the_same_name_have_different_hashes() -> None:
    assert sample_hash(HASH_KEY, "7") != subject_hash(HASH_KEY, "7")


@pytest.mark.parametrize(("hash_of", "kind"), [(sample_hash, "sample"), (subject_hash, "subject")])
def test_the_hash_of_an_id_is_hmac_sha256(hash_of: Callable[[HashKey, str], str], kind: str) -> None:
    expected = hmac.new(HASH_KEY.secret, f'["{kind}","né"]'.encode(), hashlib.sha256).hexdigest()
    assert hash_of(HASH_KEY, "né") == hash_of(HASH_KEY, "ne\u0301") == expected


def test_a_row_is_found_by_its_sample_and_by_its_subject_where_it_has_one() -> None:
    assert row_hashes(HASH_KEY, "s1", "u1") == {sample_hash(HASH_KEY, "s1"), subject_hash(HASH_KEY, "u1")}
    assert row_hashes(HASH_KEY, "s1", None) == {sample_hash(HASH_KEY, "s1")}
