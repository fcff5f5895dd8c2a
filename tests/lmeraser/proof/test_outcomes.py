"""What became of ids: told from the log, and proved by the receipts that it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from small_system import System, finish

from lmeraser.deletion import DeletionRequest
from lmeraser.hashing import sample_hash
from lmeraser.proof.outcomes import Outcome, outcomes
from lmeraser.state.log import Kind, Log, Record
from lmeraser.state.record_bodies import ErasedBody, RequestBody, body_of

SystemOf = Callable[..., System]


@pytest.fixture
def system(system_of: SystemOf) -> System:
    return system_of("minute", 24)


def told(system: System, names: list[str], people: list[str], *deletions: str) -> dict[str, Outcome]:
    found = outcomes(Log(system.store).advance(), system.hash_key, names, people, deletions)
    return {each.id: each for each in found}


def test_each_id_has_its_outcome_and_the_receipt_that_proves_it(system: System) -> None:
    coordinator = system.coordinator()
    earlier = coordinator.delete(DeletionRequest(("s3",), ("u4",)))
    finish(coordinator)
    ours = coordinator.delete(DeletionRequest(("s3", "s5", "nowhere"), ("u4", "u6", "nobody")))
    finish(coordinator)
    waiting = coordinator.delete(DeletionRequest(("s9",)))
    coordinator.approvals.require(True)
    declined = coordinator.delete(DeletionRequest(("s10",)))
    coordinator.approvals.decline(declined.id, "officer", "no")
    asked = told(system, ["s3", "s5", "nowhere", "s9", "s10", "s11"], ["u4", "u6", "nobody"], ours.id)
    expected = {
        "s3": ("already erased", earlier.id),
        "s5": ("erased", ours.id),
        "nowhere": ("unknown", ours.id),
        "s9": ("waiting", waiting.id),
        "s10": ("declined", declined.id),
        "s11": ("not requested", None),
        "u4": ("already erased", earlier.id),
        "u6": ("erased", ours.id),
        "nobody": ("unknown", ours.id),
    }
    assert {name: (each.outcome, each.deletion) for name, each in asked.items()} == expected
    for each in asked.values():
        if each.erased_at is None:
            continue
        receipt = coordinator.receipt(str(each.deletion))
        assert each.keyed_hash in receipt["samples" if each.kind == "sample" else "subjects"]
        assert each.erased_at == receipt["erased_at"]


def test_rows_that_an_ingest_added_in_between_count_as_erased(system: System) -> None:
    keyed = sample_hash(system.hash_key, "s30")
    bodies: list[tuple[Kind, dict[str, Any]]] = [
        ("request", body_of([RequestBody("d", (), (), (keyed,), (), None, "", None)])),
        ("commit", {"erasures": [{"id": "d", "samples": [keyed], "rows": 1}]}),
        ("erased", body_of([ErasedBody("d", (), 1, 0, "2030-01-01T00:00:00.000+00:00", "")])),
    ]
    records = [Record(number, kind, 1, "", "", body, "") for number, (kind, body) in enumerate(bodies, 1)]
    (outcome,) = outcomes(records, system.hash_key, ["s30"], [], ["d"])
    assert (outcome.outcome, outcome.deletion, outcome.kind) == ("erased", "d", "sample")
