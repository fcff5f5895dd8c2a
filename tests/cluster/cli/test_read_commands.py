"""Commands that only read: what they print is what the store holds, and exit codes say how it went."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer
from command_line import Run
from commits import receipts_of
from small_system import System

from cluster.cli import app
from lmeraser.deletion import DeletionRequest
from lmeraser.state.keys import init_keys
from lmeraser.state.specialist import Specialist
from lmeraser.store import LocalStore

COMMANDS = {
    *("demo", "pretrain", "ingest", "tune", "serve", "predict", "delete", "status", "verify"),
    *("deletions list", "deletions show", "deletions wait", "receipt show", "receipt verify"),
    *("rollout", "clusters list", "clusters show", "log show", "log check", "keys init"),
}


class Told(NamedTuple):
    """A system with one deletion that is completed and one that is only accepted."""

    system: System
    completed: str
    accepted: str


@pytest.fixture(scope="module")
def told(built: Callable[[str, int], System], tmp_path_factory: pytest.TempPathFactory) -> Told:
    original = built("token", 90)
    folder = tmp_path_factory.mktemp("told") / "store"
    shutil.copytree(original.store.uri, folder)
    system = replace(original, store=LocalStore(folder))
    coordinator = system.coordinator()
    completed = coordinator.delete(DeletionRequest(("s3",), ("u40",))).id
    while not coordinator.idle():
        coordinator.step()
    return Told(system, completed, coordinator.delete(DeletionRequest(("s5",))).id)


@pytest.fixture
def copied(told: Told, tmp_path: Path) -> System:
    """A copy that a test may damage."""
    shutil.copytree(told.system.store.uri, tmp_path / "copied")
    return replace(told.system, store=LocalStore(tmp_path / "copied"))


def log_files(system: System) -> list[Path]:
    return sorted((Path(system.store.uri) / "log").iterdir())


def log_values(system: System) -> list[dict[str, Any]]:
    return [json.loads(file.read_bytes()) for file in log_files(system)]


def newest(system: System) -> dict[str, Any]:
    return [value for value in log_values(system) if value["kind"] == "commit"][-1]


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    for name, child in getattr(command, "commands", {}).items():
        yield from leaves(child, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path)


def test_every_command_is_there_and_its_help_has_an_example(lmeraser: Run) -> None:
    found = set(leaves(typer.main.get_command(app.app)))
    assert found >= COMMANDS
    for name in sorted(found):
        shown = lmeraser(*name.split(), "--help")
        assert shown.code == 0, name
        assert f"Example: lmeraser {name}" in " ".join(shown.out.split()), name


def test_status_is_what_the_log_says(lmeraser: Run, told: Told) -> None:
    shown = lmeraser("status", "--store", told.system.store.uri, "--json")
    commit, clusters = newest(told.system), newest(told.system)["body"]["clusters"]
    assert (shown.code, shown.err) == (0, "")
    manifest = json.loads((Path(told.system.store.uri) / "store.json").read_bytes())
    assert shown.json == {
        "store": told.system.store.uri,
        "store_id": manifest["store_id"],
        "backbone": manifest["public_digests"]["backbone"],
        "term": max(value["term"] for value in log_values(told.system)),
        "commit": commit["number"],
        "state_root": commit["body"]["root"],
        "rows": 88,
        "clusters": len(clusters),
        "tuned": sum(entry["specialist_object"] is not None for entry in clusters),
        "awaiting": 0,
        "missing_objects": [],
        "deletions": {"completed": 1, "accepted": 1},
    }


def test_clusters_are_listed_largest_first_and_shown_by_key(lmeraser: Run, told: Told) -> None:
    shown = lmeraser("clusters", "list", "--store", told.system.store.uri, "--json").json
    entries = {entry["key"]: entry for entry in newest(told.system)["body"]["clusters"]}
    assert shown["commit"] == newest(told.system)["number"]
    assert {cluster["key"] for cluster in shown["clusters"]} == set(entries)
    rows = [cluster["rows"] for cluster in shown["clusters"]]
    assert rows == sorted((entry["rows"] for entry in entries.values()), reverse=True)
    for cluster in shown["clusters"]:
        entry = entries[cluster["key"]]
        assert (cluster["rows"], cluster["anchors"]) == (entry["rows"], len(entry["anchors"]))
        assert cluster["state"] == ("tuned" if entry["specialist_object"] else "too small")
        assert (cluster["state"] == "too small") == (entry["rows"] < 8)
        one = lmeraser("clusters", "show", entry["key"], "--store", told.system.store.uri, "--json").json
        names = ("key", "bits", "rows", "rows_object", "specialist_object")
        assert {name: one[name] for name in names} == {name: entry[name] for name in names}


def test_a_table_holds_what_the_json_holds(lmeraser: Run, told: Told) -> None:
    entries = newest(told.system)["body"]["clusters"]
    lines = lmeraser("clusters", "list", "--store", told.system.store.uri).out.splitlines()
    assert lines[0].split() == ["key", "rows", "anchors", "state", "owner", "node", "device"]
    found = {line.split()[0]: line.split()[1:3] for line in lines[1:]}
    assert found == {entry["key"]: [str(entry["rows"]), str(len(entry["anchors"]))] for entry in entries}
    status = lmeraser("status", "--store", told.system.store.uri).out
    assert newest(told.system)["body"]["root"] in status
    assert "1 completed, 1 accepted" in status
    assert told.completed in lmeraser("deletions", "list", "--store", told.system.store.uri).out


def test_deletions_are_listed_in_order_and_shown_by_id(lmeraser: Run, told: Told) -> None:
    listed = lmeraser("deletions", "list", "--store", told.system.store.uri, "--json").json["deletions"]
    assert [(deletion["id"], deletion["status"], deletion["rows"]) for deletion in listed] == [
        (told.completed, "completed", 2),
        (told.accepted, "accepted", 1),
    ]
    for deletion in listed:
        shown = lmeraser("deletions", "show", deletion["id"], "--store", told.system.store.uri, "--json")
        assert shown.json == deletion
    at = {value["kind"]: value["at"] for value in log_values(told.system) if value["body"].get("id") == told.completed}
    assert [listed[0][f"{status}_at"] for status in ("accepted", "erased", "completed")] == [
        at[kind] for kind in ("request", "erased", "completed")
    ]


def test_before_a_deletion_is_erased_waiting_runs_out_of_time_and_there_is_no_receipt(
    lmeraser: Run, told: Told
) -> None:
    store = ("--store", told.system.store.uri)
    for status in ("accepted", "erased", "completed"):
        fail_point = lmeraser("deletions", "wait", told.completed, "--status", status, *store, "--json")
        assert (fail_point.code, fail_point.json["status"]) == (0, "completed")
    late = lmeraser("deletions", "wait", told.accepted, "--status", "erased", "--timeout", 0.1, *store)
    assert late.code == 1
    assert "is accepted after 0.1 s, not erased" in late.err
    early = lmeraser("receipt", "show", told.accepted, *store)
    assert (early.code, early.out) == (1, "")
    assert told.accepted in early.err


def test_log_show_is_the_log_with_its_digests_and_log_check_names_its_head(lmeraser: Run, told: Told) -> None:
    shown = lmeraser("log", "show", "--store", told.system.store.uri, "--json").json["records"]
    digests = [record.pop("digest") for record in shown]
    assert shown == log_values(told.system)
    assert digests == [hashlib.sha256(file.read_bytes()).hexdigest() for file in log_files(told.system)]
    assert [record["previous"] for record in shown[1:]] == digests[:-1]
    checked = lmeraser("log", "check", "--store", told.system.store.uri, "--json")
    assert (checked.code, checked.json) == (
        0,
        {"records": len(digests), "head": digests[-1], "valid": True, "problems": []},
    )


# What comes last has nothing after it that would tell; there `log check` gives the head to compare.
@pytest.mark.parametrize("place", [0, 4, -2], ids=["first", "middle", "last but one"])
@pytest.mark.parametrize("damage", ["changed", "removed", "swapped"])
def test_log_check_fails_after_a_record_is_damaged(lmeraser: Run, copied: System, damage: str, place: int) -> None:
    files = log_files(copied)
    here, after = files[place], files[files.index(files[place]) + 1]
    data = here.read_bytes()
    if damage == "changed":
        value = json.loads(data)
        here.write_bytes(data.replace(value["at"].encode(), b"2020-01-01T00:00:00.000+00:00"))
        assert here.read_bytes() != data
    elif damage == "removed":
        here.unlink()
    else:
        here.write_bytes(after.read_bytes())
        after.write_bytes(data)
    shown = lmeraser("log", "check", "--store", copied.store.uri)
    assert (shown.code, shown.out) == (1, "")
    assert "log record" in shown.err


@pytest.fixture
def receipt(lmeraser: Run, told: Told, tmp_path: Path) -> Path:
    file = tmp_path / "receipt.json"
    file.write_text(lmeraser("receipt", "show", told.completed, "--store", told.system.store.uri).out)
    return file


def test_a_receipt_verifies_under_the_public_key(lmeraser: Run, told: Told, receipt: Path) -> None:
    stored = json.loads(told.system.store.get(receipts_of(told.system.store)[told.completed][-1]))
    times = ("accepted_at", "erased_at", "completed_at")
    expected = {name: stored[name] for name in ("deletion", "store", "rows", "unknown", *times)}
    expected |= {"covered": 2, "rows": 2, "subjects": 1, "clusters": len(stored["clusters"])}
    public = told.system.keys / "signing-key.pub.pem"
    shown = lmeraser("receipt", "verify", receipt, "--public-key", public, "--json")
    assert (shown.code, shown.json) == (0, {**expected, "valid": True})
    ask = ("receipt", "verify", receipt, "--public-key", public)
    for value in map(str, expected.values()):
        assert value in lmeraser(*ask).out
    assert lmeraser(*ask, "--store-id", stored["store"]).code == 0
    lmeraser(*ask, "--store-id", "another").failed(1, f"of store {stored['store']}, not of another")


def test_a_receipt_is_asked_about_ids_in_a_file(lmeraser: Run, told: Told, receipt: Path, tmp_path: Path) -> None:
    keys = told.system.keys
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
def test_a_receipt_says_whether_it_covers_an_id(lmeraser: Run, told: Told, receipt: Path, name: str, code: int) -> None:
    keys = told.system.keys
    options = ("--public-key", keys / "signing-key.pub.pem", "--keys", keys, "--json")
    shown = lmeraser("receipt", "verify", receipt, "--id", name, *options)
    assert (shown.code, shown.json["covered"]) == (code, code == 0)


def test_a_hash_key_alone_says_whom_a_receipt_covers_and_another_one_says_nothing(
    lmeraser: Run, told: Told, receipt: Path, tmp_path: Path
) -> None:
    keys = told.system.keys
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
def test_a_receipt_fails_once_it_is_changed(lmeraser: Run, told: Told, receipt: Path, change: dict[str, Any]) -> None:
    receipt.write_text(json.dumps({**json.loads(receipt.read_text()), **change}))
    shown = lmeraser("receipt", "verify", receipt, "--public-key", told.system.keys / "signing-key.pub.pem")
    assert (shown.code, shown.out) == (1, "")


@pytest.mark.slow
def test_verify_finds_the_state_that_the_rows_give(lmeraser: Run, told: Told) -> None:
    shown = lmeraser("verify", "--store", told.system.store.uri, "--keys", told.system.keys, "--processes", 1, "--json")
    root = newest(told.system)["body"]["root"]
    assert (shown.code, shown.json["rows"]) == (0, 88)
    assert (shown.json["state_root"], shown.json["fresh_root"]) == (root, root)
    assert (shown.json["equal"], shown.json["differing"], shown.json["awaiting"]) == (True, [], [])


@pytest.mark.slow
def test_verify_fails_when_one_byte_of_a_prompt_is_changed(lmeraser: Run, copied: System) -> None:
    entry = next(entry for entry in newest(copied)["body"]["clusters"] if entry["specialist_object"])
    name = entry["specialist_object"]
    specialist = Specialist.from_safetensors(copied.store.get(name), name)
    prompt = specialist.prompt.copy()
    prompt.view(np.uint8).reshape(-1)[0] ^= 1
    copied.store.put(name, replace(specialist, prompt=prompt).to_safetensors())
    options = ("--store", copied.store.uri, "--keys", copied.keys, "--cluster", entry["key"], "--processes", 1)
    shown = lmeraser("verify", *options, "--json")
    assert (shown.code, shown.json["equal"], shown.json["differing"]) == (1, False, [f"specialist/{entry['key']}"])
    assert shown.json["state_root"] != shown.json["fresh_root"]


def test_keys_are_made_once_and_only_their_owner_reads_them(lmeraser: Run, tmp_path: Path) -> None:
    folder = tmp_path / "made" / "keys"
    made = lmeraser("keys", "init", "--keys", folder, "--json")
    files = {name: Path(path) for name, path in made.json.items()}
    assert (made.code, set(files)) == (0, {"hash_key", "signing_key", "public_key"})
    assert {files[name].stat().st_mode & 0o777 for name in ("hash_key", "signing_key")} == {0o600}
    before = {path: path.read_bytes() for path in files.values()}
    again = lmeraser("keys", "init", "--keys", folder)
    assert (again.code, again.out) == (1, "")
    assert str(folder) in again.err
    assert {path: path.read_bytes() for path in files.values()} == before
