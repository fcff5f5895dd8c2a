"""How ids match rows: a subject and a sample of the same name are different, and Unicode forms are equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from small_system import System, finish, samples
from stored_rows import rows_of

from lmeraser.deletion import DeletionRequest
from lmeraser.errors import DuplicateSampleError, RequestError
from lmeraser.proof.receipts import covers

SystemOf = Callable[..., System]
COMPOSED, APART = "Zo\u00eb", "Zoe\u0308"


def stored_ids(system: System) -> list[str]:
    entries = system.newest().clusters
    tables = [rows_of(system.store, entry) for entry in entries]
    return sorted(name for table in tables for name in table.sample_ids)


def deleted(system: System, sample_ids: list[str], subject_ids: list[str]) -> tuple[int, tuple[str, ...], str]:
    coordinator = system.coordinator()
    deletion = coordinator.delete(DeletionRequest(tuple(sample_ids), tuple(subject_ids)))
    finish(coordinator)
    return deletion.rows, deletion.unknown_ids, deletion.id


def test_deleting_a_subject_does_not_delete_a_sample_of_the_same_name(system_of: SystemOf) -> None:
    system = system_of(rows=0)
    people = ["s5", "s5", "s30", "s0", *[None] * 16]
    rows = [replace(row, subject_id=person) for row, person in zip(samples(0, 20), people, strict=True)]
    system.ingest(rows)
    assert deleted(system, [], ["s5", "s30", "s7"])[:2] == (3, ("s7",))
    remaining = rows[3:]
    assert stored_ids(system) == sorted(row.sample_id for row in remaining)
    assert system.newest().root == system.fresh_root(remaining)
    # Nor does a later ingest refuse a row without a subject because of its name.
    system.ingest([replace(row, subject_id=None) for row in samples(30, 31)])
    assert "s30" in stored_ids(system)


@pytest.mark.parametrize(
    ("invalid_id", "message"),
    [("", "is empty"), ("x" * 1025, "has 1025 characters"), ("\udce9", r"'\\udce9', which is not UTF-8")],
)
def test_an_invalid_id_is_refused_before_anything_is_written(
    system_of: SystemOf, invalid_id: str, message: str
) -> None:
    system = system_of()
    before = system.store.names()
    for sample_ids, subject_ids in ((["s1", invalid_id], []), ([], ["u1", invalid_id])):
        with pytest.raises(RequestError, match=f"{message}.*; allowed are 1 to 1024 characters"):
            system.coordinator().delete(DeletionRequest(tuple(sample_ids), tuple(subject_ids)))
    with pytest.raises(RequestError, match="idempotency key"):
        system.coordinator().delete(DeletionRequest(("s1",), idempotency_key="\udce9"))
    assert system.coordinator().recent_deletions() == []
    assert [name for name in system.store.names() if name.startswith("receipts/")] == [
        name for name in before if name.startswith("receipts/")
    ]
    assert system.coordinator().delete(DeletionRequest(("x" * 1024,))).unknown == 1


@pytest.mark.parametrize(("stored_id", "requested_id"), [(COMPOSED, APART), (APART, COMPOSED)])
def test_an_id_matches_its_row_in_any_unicode_form(system_of: SystemOf, stored_id: str, requested_id: str) -> None:
    system = system_of(rows=0)
    rows = samples(0, 20)
    rows[3] = replace(rows[3], sample_id=stored_id)
    rows[4] = replace(rows[4], subject_id=stored_id)
    system.ingest(rows)
    assert stored_id in stored_ids(system)
    count, unknown, deletion = deleted(system, [requested_id], [requested_id])
    assert (count, unknown) == (2, ())
    assert system.newest().root == system.fresh_root([*rows[:3], *rows[5:]])
    receipt = system.coordinator().receipt(deletion)
    assert covers(receipt, system.hash_key, requested_id) and covers(receipt, system.hash_key, stored_id)
    for again in (replace(rows[3], sample_id=requested_id), replace(rows[4], subject_id=requested_id)):
        assert system.ingest([again]).erased == 1


def test_two_forms_of_one_id_are_one_row(system_of: SystemOf) -> None:
    system = system_of(rows=20)
    system.ingest([replace(samples(20, 21)[0], sample_id=COMPOSED)])
    with pytest.raises(DuplicateSampleError, match="in the store already"):
        system.ingest([replace(samples(21, 22)[0], sample_id=APART)])


def test_ids_that_differ_in_case_blanks_or_zeros_are_different_ids(system_of: SystemOf) -> None:
    system = system_of(rows=0)
    names = ["42", "0042", "42 ", " 42", "a", "A", "None"]
    rows = [replace(row, sample_id=name, subject_id=None) for row, name in zip(samples(0, 7), names, strict=True)]
    system.ingest(rows + samples(30, 50))
    assert deleted(system, ["42", "a"], ["None", "0042"])[:2] == (2, ("0042", "None"))
    assert {"0042", "42 ", " 42", "A", "None"} < set(stored_ids(system))
