"""The coreset of a cluster: which rows its prompt is tuned on."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmeraser.learning.coreset import coreset, coreset_hashes

Rows = dict[str, int]

_IDS = st.text("abcdefgh0123", min_size=1, max_size=6)
_ROWS = st.dictionaries(_IDS, st.integers(0, 4), min_size=1, max_size=60)


def _coreset(rows: Rows, size: int, seed: int = 3) -> set[str]:
    names = list(rows)
    index_M = coreset(coreset_hashes(seed, names), np.array(list(rows.values()), np.int64), size)
    return {names[row] for row in index_M}


def _by_definition(rows: Rows, size: int, seed: int = 3) -> set[str]:
    """A second implementation: deal the classes' rows in turn, each class in the order of its hashes."""

    def order(name: str) -> int:
        drawn = json.dumps([seed, "coreset", name], separators=(",", ":")).encode()
        return int.from_bytes(hashlib.sha256(drawn).digest()[:8], "big")

    by_class: dict[int, list[str]] = defaultdict(list)
    for name in sorted(rows, key=order):
        by_class[rows[name]].append(name)
    rounds = range(max(map(len, by_class.values())))
    dealt = [sorted((names[turn] for names in by_class.values() if turn < len(names)), key=order) for turn in rounds]
    return set([name for names in dealt for name in names][:size])


@given(_ROWS, st.integers(1, 70))
def test_it_is_what_dealing_the_classes_in_turn_gives(rows: Rows, size: int) -> None:
    assert _coreset(rows, size) == _by_definition(rows, size)


@given(_ROWS, st.integers(1, 40), st.randoms(use_true_random=False))
def test_it_does_not_depend_on_the_order_of_the_rows(rows: Rows, size: int, random: object) -> None:
    names = list(rows)
    random.shuffle(names)  # type: ignore[attr-defined]
    assert _coreset({name: rows[name] for name in names}, size) == _coreset(rows, size)


@settings(max_examples=50)
@given(_ROWS, st.integers(1, 40))
def test_deleting_a_row_outside_leaves_it_and_one_inside_lets_one_row_in(rows: Rows, size: int) -> None:
    before = _coreset(rows, size)
    for name in rows:
        remaining = {each: label for each, label in rows.items() if each != name}
        if not remaining:
            continue
        after = _coreset(remaining, size)
        if name not in before:
            assert after == before
        else:
            assert name not in after
            assert before - {name} <= after
            assert len(after) == min(size, len(remaining))


@settings(max_examples=50)
@given(_ROWS, _IDS, st.integers(0, 4), st.integers(1, 40))
def test_adding_a_row_that_does_not_enter_leaves_it(rows: Rows, name: str, label: int, size: int) -> None:
    rest = {each: kind for each, kind in rows.items() if each != name}
    after = _coreset({**rest, name: label}, size)
    if name not in after and rest:
        assert after == _coreset(rest, size)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_more_classes_than_rows_in_it_take_the_least_hashes_of_all(size: int) -> None:
    rows = {f"row{label}": label for label in range(8)}
    hashes_N = coreset_hashes(3, rows)
    least = {f"row{row}" for row in np.argsort(hashes_N)[:size]}
    assert _coreset(rows, size) == least


def test_one_class_and_one_row() -> None:
    assert _coreset({"only": 2}, 5) == {"only"}
    rows = {f"row{number}": 1 for number in range(20)}
    hashes_N = coreset_hashes(3, rows)
    assert _coreset(rows, 7) == {f"row{row}" for row in np.argsort(hashes_N)[:7]}


def test_fewer_rows_than_its_size_are_all_in_it() -> None:
    rows = {f"row{number}": number % 3 for number in range(9)}
    assert _coreset(rows, 9) == _coreset(rows, 100) == set(rows)


def test_ids_that_look_the_same_have_the_same_hash() -> None:
    composed, decomposed = coreset_hashes(0, ["caf\u00e9", "cafe\u0301"])
    assert composed == decomposed
