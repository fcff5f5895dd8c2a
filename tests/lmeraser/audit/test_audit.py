"""An audit of true deletions, and of what was changed afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from commits import receipts_of
from forged_commits import commit_entry
from small_system import System, samples

from lmeraser.audit import Audit, Plan, Question, Section, audit, to_html
from lmeraser.audit.attack import Gaussians, strength
from lmeraser.audit.evidence import read_evidence
from lmeraser.audit.shadow_models import STAGES, Stage, train_shadow_models
from lmeraser.audit.targets import attacked
from lmeraser.data import Sample
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import ConfigError, KeysError
from lmeraser.hashing import HashKey
from lmeraser.proof.recompute import use_in_worker
from lmeraser.state.keys import load_signing_key
from lmeraser.state.log import Log
from lmeraser.store import LocalStore

QUICK = Plan(worlds=0, targets=8, clusters=2, specialist_weight=0.5, temperature=2.0)
DONE = {"requests", "receipts", "log", "rows", "recomputation", "residue", "answers"}
SystemOf = Callable[..., System]
pytestmark = pytest.mark.usefixtures("recomputed_in_a_thread")


class Deleted(NamedTuple):
    """A system from which s3 was deleted, and then subject u40."""

    system: System
    requests: tuple[str, str]


@pytest.fixture
def deleted(system_of: SystemOf) -> Deleted:
    system = system_of("minute", 24)
    system.ingest(samples(40, 42))
    coordinator = system.coordinator()
    ids = []
    for sample_ids, subject_ids in ((["s3"], []), ([], ["u40"])):
        ids.append(coordinator.delete(DeletionRequest(tuple(sample_ids), tuple(subject_ids))).id)
        while not coordinator.idle():
            coordinator.step()
    return Deleted(system, (ids[0], ids[1]))


def audited(
    deleted: Deleted, ids: Sequence[str] = ("s3", "s40", "u40"), source: Sequence[Sample] = (), **rest: Any
) -> Audit:
    system = deleted.system
    question = Question(deleted.requests, QUICK, tuple(ids), source, **rest)
    return audit(system.store, system.hash_key, load_signing_key(system.keys).public_key(), question)


def by_name(found: Audit) -> dict[str, Section]:
    return {one.name: one for one in found.sections}


def statuses(found: Audit) -> dict[str, str]:
    return {one.name: one.status for one in found.sections}


@pytest.mark.slow
def test_true_deletions_pass_every_section_that_is_requested(deleted: Deleted) -> None:
    found = audited(deleted, source=samples(0, 50))
    assert statuses(found) == {**dict.fromkeys(DONE, "passed"), "membership": "not done"}
    assert found.verdict == "incomplete"
    assert found.state_root == deleted.system.newest().root
    figures = by_name(found)["recomputation"].figures
    assert figures["fresh_root"] == figures["state_root"] == found.state_root
    assert figures["touched"] and by_name(found)["residue"].figures["images"] == 2


@pytest.mark.slow
def test_without_ids_the_residue_counts_as_not_done_and_with_some_too(deleted: Deleted) -> None:
    for ids in ((), ("s3",)):
        found = audited(deleted, ids)
        assert statuses(found)["residue"] == "not done" and found.verdict == "incomplete"
        assert f"{2 - len(ids)} of 2 samples" in by_name(found)["residue"].findings[0]


@pytest.mark.slow
def test_later_changes_are_reported_by_their_sections(deleted: Deleted) -> None:
    system, (first, second) = deleted
    name = receipts_of(system.store)[first][-1]
    receipt = json.loads(system.store.get(name))
    system.store.put(name, json.dumps({**receipt, "erased_at": "2020"}).encode())
    system.store.put("rows/old/left.parquet", b"a copy of s40 here")
    found = audited(deleted, known_head="0" * 64)
    expected = {"receipts": "failed", "log": "failed", "residue": "failed"}
    assert statuses(found) == {**dict.fromkeys(DONE, "passed"), "membership": "not done", **expected}
    assert found.verdict == "failed"
    assert [first in finding for finding in by_name(found)["receipts"].findings] == [True]
    assert second not in str(by_name(found)["receipts"].findings)


def test_a_broken_chain_is_a_failed_audit_and_not_a_crash(deleted: Deleted) -> None:
    system = deleted.system
    record = Log(system.store).advance()[2]
    name = f"log/{record.number:010d}.json"
    system.store.put(name, system.store.get(name).replace(b'"term":1', b'"term":9'))
    found = audited(deleted)
    assert statuses(found) == {"log": "failed"} and found.verdict == "failed" and found.state_root is None


def test_a_commit_that_lacks_prompted_features_is_a_failed_audit_and_not_a_crash(deleted: Deleted) -> None:
    system = deleted.system
    entry = next(entry for entry in system.newest().clusters if entry.prompted_leaf is not None)
    segments = tuple(segment.without_features() for segment in entry.segments)
    commit_entry(system, replace(entry, segments=segments))
    found = by_name(audited(deleted))
    assert f"prompted/{entry.key} cannot be compared" in str(found["recomputation"].findings)
    assert f"cluster {entry.key} has a digest of prompted features" in str(found["answers"].findings)


def test_invalid_questions_are_refused(deleted: Deleted) -> None:
    system = deleted.system
    with pytest.raises(ConfigError, match="'nothing'"):
        audited(Deleted(system, ("nothing", "")))
    with pytest.raises(ConfigError, match="'s5' is in none"):
        audited(deleted, ["s5"])
    with pytest.raises(KeysError):
        audit(
            system.store,
            HashKey(b"0" * 32),
            load_signing_key(system.keys).public_key(),
            Question(deleted.requests, QUICK),
        )


class Tags(HTMLParser):
    """Open tags, and everything that a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.fetched += [
            value or ""
            for name, value in attrs
            if name in ("src", "href", "xlink:href") and not (value or "").startswith(("#", "data:"))
        ]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()


@pytest.mark.slow
def test_membership_is_measured_at_each_stage_and_the_report_is_one_file(deleted: Deleted) -> None:
    system = deleted.system
    plan = replace(QUICK, worlds=8)
    key = load_signing_key(system.keys).public_key()
    found = audit(system.store, system.hash_key, key, Question(deleted.requests, plan, (), samples(0, 50)))
    one = by_name(found)["membership"]
    assert one.status == "passed"
    assert one.figures["equal_worlds"] == {"of": 16, "erased": 16, "completed": 16}
    assert one.figures["deleted_rows"] == 2 and set(STAGES) <= set(one.figures)
    tags = Tags()
    tags.feed(to_html(found))
    assert tags.open == [] and tags.fetched == [] and tags.seen.count("svg") == 2
    assert "plots" not in json.dumps(found.to_json())


@pytest.mark.slow
def test_the_attack_sees_rows_before_their_deletion_and_not_after(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    deletion = system.coordinator().delete(DeletionRequest(("s3",))).id
    coordinator = system.coordinator()
    while not coordinator.idle():
        coordinator.step()
    key = load_signing_key(system.keys).public_key()
    evidence = read_evidence(system.store, system.manifest, system.hash_key, key, [deletion])
    pipeline = system.pipeline()
    plan = Plan(worlds=160, targets=8, clusters=1, specialist_weight=0.5, temperature=2.0)
    cluster = attacked(evidence, pipeline, samples(3, 4), plan)[0]
    assert cluster.deleted_T.any() and not cluster.deleted_T.all()
    with ThreadPoolExecutor(1, initializer=use_in_worker, initargs=(pipeline,)) as workers:
        found = train_shadow_models(pipeline, cluster, plan, workers, None)
    assert (found.erased_equal, found.completed_equal) == (160, 160)
    assert found.member_WT.sum() == found.member_WT.size // 2
    world_WT = np.repeat(np.arange(80)[:, None], found.member_WT.shape[1], axis=1)
    leaks: dict[Stage, bool] = {"before": True, "erased": False, "completed": False, "control": False}
    for stage, above in leaks.items():
        fitted = Gaussians.fit(found.confidence[stage][:80], found.member_WT[:80])
        scores_WT = fitted.scores(found.confidence[stage][80:])
        auc = strength(scores_WT.ravel(), found.member_WT[80:].ravel(), world_WT.ravel(), seed=0).auc
        assert (auc.low > 0.5) == above, (stage, str(auc))


def test_without_rows_of_the_cluster_the_answers_are_not_done(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    coordinator = system.coordinator()
    deletion = coordinator.delete(DeletionRequest(tuple(f"s{number}" for number in range(24)))).id
    while not coordinator.idle():
        coordinator.step()
    store = LocalStore(Path(system.store.uri))
    question = Question((deletion,), QUICK)
    found = audit(store, system.hash_key, load_signing_key(system.keys).public_key(), question)
    assert statuses(found)["answers"] == "not done" and statuses(found)["rows"] == "passed"
