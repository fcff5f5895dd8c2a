"""The service after a cluster, a class or everything was deleted, and after rows are added again, over HTTP."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import httpx2
import pytest
from direct_service import Service
from small_system import LABELS, System, picture, samples
from stored_rows import rows_of

from actors.incoming import put_rows
from actors.ingests import IngestOutcome
from lmeraser.data import Sample

SystemOf = Callable[..., System]
EVERYTHING = [row.sample_id for row in samples(0, 90)]


class Running:
    """A coordinator and a replica of one system in this process, which run on while rows are added and deleted."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._service = Service(system)
        self.coordinator = self._service.coordinator.coordinator

    def http(self, method: str, path: str, json: Any = None) -> httpx2.Response:
        return self._service.http(method, path, json=json)

    def predict(self, numbers: range) -> list[dict[str, Any]]:
        images = [base64.b64encode(picture(number)).decode() for number in numbers]
        # With a weight, specialists are used whichever head is better.
        answer = self.http("POST", "/v1/predict", {"images": images, "specialist_weight": 0.75})
        assert answer.status_code == 200, answer.text
        predictions: list[dict[str, Any]] = answer.json()["predictions"]
        return predictions

    def delete(self, sample_ids: Sequence[str], subject_ids: Sequence[str] = ()) -> dict[str, Any]:
        """The answer to the request, after the deletion is completed."""
        body = {"sample_ids": list(sample_ids), "subject_ids": list(subject_ids)}
        answer = self.http("POST", "/v1/deletions", body)
        assert answer.status_code == 202, answer.text
        self.finish()
        accepted: dict[str, Any] = answer.json()
        assert self.http("GET", f"/v1/deletions/{accepted['id']}").json()["status"] == "completed"
        return accepted

    def ingest(self, rows: list[Sample], force: bool = False) -> IngestOutcome:
        prefix = self.coordinator.begin_ingest()
        put_rows(
            self.system.store,
            self.system.hash_key,
            f"{prefix}rows",
            self.system.pipeline().rows(rows),
            seed=self.system.manifest.config.seed,
        )
        done = self.coordinator.ingest(prefix, force)
        self.finish()
        return done.result(timeout=0)

    def finish(self) -> None:
        while not self.coordinator.idle():
            self.coordinator.step()
        self._service.caught_up()

    def clusters(self) -> dict[str, int]:
        return {cluster["key"]: cluster["rows"] for cluster in self.http("GET", "/v1/clusters").json()["clusters"]}

    def root(self) -> str:
        return str(self.http("GET", "/v1/commit").json()["root"])

    def fresh_root(self, rows: list[Sample]) -> str:
        return self.system.fresh_root(rows)


@pytest.fixture
def running(system_of: SystemOf) -> Running:
    return Running(system_of())


def ids_of(system: System, key: str) -> list[str]:
    entry = system.newest().entry(key)
    assert entry is not None
    return list(rows_of(system.store, entry).sample_ids)


def without(removed: Sequence[str]) -> list[Sample]:
    return [row for row in samples(0, 90) if row.sample_id not in removed]


@pytest.mark.slow
def test_a_cluster_that_loses_every_row_disappears_and_its_images_are_still_answered(running: Running) -> None:
    before = running.clusters()
    emptied = max(before, key=lambda key: before[key])
    removed = ids_of(running.system, emptied)
    numbers = [int(name[1:]) for name in removed]
    assert {running.predict(range(number, number + 1))[0]["cluster"] for number in numbers} == {emptied}
    accepted = running.delete(removed)
    assert (accepted["rows"], accepted["unknown_ids"]) == (len(removed), [])
    after = running.clusters()
    assert emptied not in after
    assert sum(after.values()) == 90 - len(removed)
    assert running.root() == running.fresh_root(without(removed))
    for number in numbers:
        (answer,) = running.predict(range(number, number + 1))
        assert answer["cluster"] in {None, *after}
        assert answer["label"] in LABELS


@pytest.mark.slow
def test_ids_of_an_emptied_cluster_are_unknown_and_deleting_them_again_changes_nothing(running: Running) -> None:
    removed = ids_of(running.system, next(iter(running.clusters())))
    subjects = [f"u{name[1:]}" for name in removed]
    running.delete(removed)
    root = running.root()
    again = running.delete(removed, subjects)
    assert (again["rows"], set(again["unknown_ids"])) == (0, {*removed, *subjects})
    assert running.root() == root
    mixed = running.delete([removed[0], next(name for name in EVERYTHING if name not in removed)])
    assert (mixed["rows"], mixed["unknown_ids"]) == (1, [removed[0]])


@pytest.mark.slow
def test_a_class_that_loses_every_row_keeps_its_column_and_is_never_predicted(running: Running) -> None:
    assert {answer["label"] for answer in running.predict(range(300, 330))} == set(LABELS)
    removed = [row.sample_id for row in samples(0, 90) if LABELS[row.label] == "green"]
    assert running.delete(removed)["rows"] == 30
    assert running.root() == running.fresh_root(without(removed))
    answers = running.predict(range(300, 330))
    for answer in answers:
        assert set(answer["probabilities"]) == set(LABELS)
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert {answer["label"] for answer in answers} == {"red", "blue"}
    right = [answer["label"] == LABELS[number % 3] for number, answer in zip(range(300, 330), answers, strict=True)]
    assert sum(right) >= 15
    running.ingest(samples(200, 230))
    assert {answer["label"] for answer in running.predict(range(300, 330))} == set(LABELS)
    assert running.root() == running.fresh_root(without(removed) + samples(200, 230))


@pytest.mark.slow
def test_an_emptied_system_answers_with_503(running: Running) -> None:
    running.predict(range(300, 302))
    assert running.delete(EVERYTHING[:45], [f"u{name[1:]}" for name in EVERYTHING[45:]])["rows"] == 90
    for method, path, body in (("POST", "/v1/predict", {"images": ["AAAA"]}), ("GET", "/readyz", None)):
        answer = running.http(method, path, body)
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.json()["type"].endswith("not-ready")
    commit = running.http("GET", "/v1/commit").json()
    assert (commit["rows"], commit["clusters"], commit["specialists"]) == (0, 0, 0)
    assert running.clusters() == {}
    assert running.root() == running.fresh_root([])
    for prefix in ("rows/", "prompts/", "prompted/", "removed/", "incoming/"):
        assert running.system.store.names(prefix) == []
    again = running.delete(["s1", "s2"])
    assert (again["rows"], again["unknown_ids"]) == (0, ["s1", "s2"])


@pytest.mark.slow
def test_an_emptied_system_that_gets_rows_equals_one_that_only_ever_had_them(
    running: Running, system_of: SystemOf
) -> None:
    running.delete(EVERYTHING)
    assert running.ingest(samples(200, 260)).added == 60
    assert running.root() == running.fresh_root(samples(200, 260))
    other = Running(system_of(rows=0))
    other.ingest(samples(200, 260))
    assert running.clusters() == other.clusters()
    answers, expected = running.predict(range(300, 330)), other.predict(range(300, 330))
    assert "specialist" in {answer["route"] for answer in answers}
    for answer in (*answers, *expected):
        del answer["commit"]
    assert answers == expected


@pytest.mark.slow
def test_erased_rows_come_back_only_by_force_and_then_give_the_same_state(running: Running) -> None:
    root = running.root()
    running.delete(EVERYTHING)
    assert running.ingest(samples(0, 90)) == IngestOutcome(added=0, present=0, erased=90)
    assert running.clusters() == {}
    assert running.ingest(samples(0, 90), force=True).added == 90
    assert running.root() == root


@pytest.mark.slow
def test_a_new_coordinator_and_replica_start_on_an_emptied_store(running: Running) -> None:
    running.delete(EVERYTHING)
    successor = Running(running.system)
    assert successor.clusters() == {}
    assert successor.ingest(samples(200, 230)).added == 30
    assert successor.root() == successor.fresh_root(samples(200, 230))
    assert len(successor.predict(range(300, 303))) == 3
