"""Commands that only read: what they print is what the store holds, and exit codes say how it went."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from deletion_case import Case
from small_system import System

from lmeraser.state.specialist import Prompt
from lmeraser.store import LocalStore


@pytest.fixture
def copied(case: Case, tmp_path: Path) -> System:
    """A copy that a test may damage."""
    shutil.copytree(case.system.store.uri, tmp_path / "copied")
    return replace(case.system, store=LocalStore(tmp_path / "copied"))


def log_files(system: System) -> list[Path]:
    return sorted((Path(system.store.uri) / "log").iterdir())


def log_values(system: System) -> list[dict[str, Any]]:
    return [json.loads(file.read_bytes()) for file in log_files(system)]


def newest(system: System) -> dict[str, Any]:
    return [value for value in log_values(system) if value["kind"] == "commit"][-1]


def clusters_of(system: System) -> list[dict[str, Any]]:
    """The clusters that the commits of the log add up to."""
    clusters: dict[str, dict[str, Any]] = {}
    for body in (value["body"] for value in log_values(system) if value["kind"] == "commit"):
        clusters = {key: each for key, each in clusters.items() if key not in body["removed"] and body["previous"]}
        for each in body["clusters"]:
            before = clusters.get(each["key"], {"segments": []})["segments"]
            segments = [before[segment] if isinstance(segment, int) else segment for segment in each["segments"]]
            clusters[each["key"]] = {**each, "segments": segments}
    return list(clusters.values())


def test_status_is_what_the_log_says(lmeraser: Run, case: Case) -> None:
    shown = lmeraser("status", "--store", case.system.store.uri, "--json")
    commit, clusters = newest(case.system), clusters_of(case.system)
    assert (shown.code, shown.err) == (0, "")
    manifest = json.loads((Path(case.system.store.uri) / "store.json").read_bytes())
    assert shown.json == {
        "store": case.system.store.uri,
        "store_id": manifest["store_id"],
        "generation": None,
        "rebuild": None,
        "backbone": manifest["public_digests"]["backbone"],
        "term": max(value["term"] for value in log_values(case.system)),
        "commit": commit["number"],
        "state_root": commit["body"]["root"],
        "rows": 88,
        "clusters": len(clusters),
        "tuned": sum(entry["prompted_leaf"] is not None for entry in clusters),
        "awaiting": 0,
        "missing_objects": [],
        "deletions": {"completed": 1, "accepted": 1},
    }


def test_clusters_are_listed_largest_first_and_shown_by_key(lmeraser: Run, case: Case) -> None:
    shown = lmeraser("clusters", "list", "--store", case.system.store.uri, "--json").json
    entries = {entry["key"]: entry for entry in clusters_of(case.system)}
    assert shown["commit"] == newest(case.system)["number"]
    assert {cluster["key"] for cluster in shown["clusters"]} == set(entries)
    rows = [cluster["rows"] for cluster in shown["clusters"]]
    assert rows == sorted((entry["rows"] for entry in entries.values()), reverse=True)
    for cluster in shown["clusters"]:
        entry = entries[cluster["key"]]
        assert (cluster["rows"], cluster["anchors"]) == (entry["rows"], len(entry["anchors"]))
        assert cluster["state"] == ("tuned" if entry["prompted_leaf"] else "too small")
        assert (cluster["state"] == "too small") == (entry["rows"] < 8)
        one = lmeraser("clusters", "show", entry["key"], "--store", case.system.store.uri, "--json").json
        assert {name: one[name] for name in ("key", "bits", "rows", "prompt_object")} == {
            name: entry[name] for name in ("key", "bits", "rows", "prompt_object")
        }
        (segment,), (shown_segment,) = entry["segments"], one["segments"]
        rows, _, name, _, _, prompted_object, _ = segment
        names = [name, name.replace(".parquet", ".ids"), *filter(None, [prompted_object])]
        assert shown_segment == {"rows": rows, "objects": names}


def test_a_table_holds_what_the_json_holds(lmeraser: Run, case: Case) -> None:
    entries = clusters_of(case.system)
    lines = lmeraser("clusters", "list", "--store", case.system.store.uri).out.splitlines()
    assert lines[0].split() == ["key", "rows", "anchors", "state", "owner", "node", "device"]
    found = {line.split()[0]: line.split()[1:3] for line in lines[1:]}
    assert found == {entry["key"]: [str(entry["rows"]), str(len(entry["anchors"]))] for entry in entries}
    status = lmeraser("status", "--store", case.system.store.uri).out
    assert newest(case.system)["body"]["root"] in status
    assert "1 completed, 1 accepted" in status
    assert case.completed in lmeraser("deletions", "list", "--store", case.system.store.uri).out


def test_deletions_are_listed_newest_first_and_shown_by_id(lmeraser: Run, case: Case) -> None:
    listed = lmeraser("deletions", "list", "--store", case.system.store.uri, "--json").json["deletions"]
    assert [(deletion["id"], deletion["status"], deletion["rows"]) for deletion in listed] == [
        (case.accepted, "accepted", 1),
        (case.completed, "completed", 2),
    ]
    for deletion in listed:
        shown = lmeraser("deletions", "show", deletion["id"], "--store", case.system.store.uri, "--json")
        assert shown.json == deletion
    at = {
        value["kind"]: each.get("at", value["at"])
        for value in log_values(case.system)
        for each in value["body"].get("deletions", ())
        if each["id"] == case.completed
    }
    assert [listed[1][f"{status}_at"] for status in ("accepted", "erased", "completed")] == [
        at[kind] for kind in ("request", "erased", "completed")
    ]


def test_lists_go_on_where_the_page_before_ended(lmeraser: Run, case: Case) -> None:
    at = ("--store", case.system.store.uri)
    for noun in ("deletions", "clusters"):
        whole = lmeraser(noun, "list", *at, "--json").json
        assert whole["next_cursor"] is None
        first = lmeraser(noun, "list", *at, "--limit", 1, "--json").json
        rest = lmeraser(noun, "list", *at, "--cursor", first["next_cursor"], "--json").json
        assert first[noun] + rest[noun] == whole[noun]
        table = lmeraser(noun, "list", *at, "--limit", 1)
        assert len(table.out.splitlines()) == 2
        assert table.err == f"there are more: --cursor {first['next_cursor']}\n"
        lmeraser(noun, "list", *at, "--cursor", "none").failed(1, "the cursor 'none' is not one of this list")
        for limit in (0, 1001):
            assert lmeraser(noun, "list", *at, "--limit", limit).code == 2


def test_deletions_are_listed_by_status(lmeraser: Run, case: Case) -> None:
    ask = ("deletions", "list", "--store", case.system.store.uri, "--json", "--status")
    assert [each["id"] for each in lmeraser(*ask, "completed").json["deletions"]] == [case.completed]
    assert [each["id"] for each in lmeraser(*ask, "accepted").json["deletions"]] == [case.accepted]
    assert lmeraser(*ask, "failed").json == {"deletions": [], "next_cursor": None}
    lmeraser(*ask, "done").failed(
        2, "--status is 'done'; allowed is requested, declined, accepted, erased, completed, failed"
    )


def test_before_a_deletion_is_erased_waiting_runs_out_of_time_and_there_is_no_receipt(
    lmeraser: Run, case: Case
) -> None:
    store = ("--store", case.system.store.uri)
    for status in ("accepted", "erased", "completed"):
        awaited = lmeraser("deletions", "wait", case.completed, "--status", status, *store, "--json")
        assert (awaited.code, awaited.json["status"]) == (0, "completed")
    late = lmeraser("deletions", "wait", case.accepted, "--status", "erased", "--timeout", 0.1, *store)
    assert late.code == 1
    assert "is accepted after 0.1 s, not erased" in late.err
    early = lmeraser("receipt", "show", case.accepted, *store)
    assert (early.code, early.out) == (1, "")
    assert case.accepted in early.err


def test_log_show_is_the_log_with_its_digests_and_log_check_names_its_head(lmeraser: Run, case: Case) -> None:
    shown = lmeraser("log", "show", "--store", case.system.store.uri, "--json").json["records"]
    digests = [record.pop("digest") for record in shown]
    sizes = [record.pop("size_bytes") for record in shown]
    assert shown == log_values(case.system)
    assert sizes == [file.stat().st_size for file in log_files(case.system)]
    assert digests == [hashlib.sha256(file.read_bytes()).hexdigest() for file in log_files(case.system)]
    assert [record["previous"] for record in shown[1:]] == digests[:-1]
    checked = lmeraser("log", "check", "--store", case.system.store.uri, "--json")
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


@pytest.mark.slow
def test_verify_finds_the_state_that_the_rows_give(lmeraser: Run, case: Case) -> None:
    shown = lmeraser("verify", "--store", case.system.store.uri, "--keys", case.system.keys, "--processes", 1, "--json")
    root = newest(case.system)["body"]["root"]
    assert (shown.code, shown.json["rows"]) == (0, 88)
    assert (shown.json["state_root"], shown.json["fresh_root"]) == (root, root)
    assert (shown.json["equal"], shown.json["differing"], shown.json["awaiting"]) == (True, [], [])


@pytest.mark.slow
def test_verify_fails_when_one_byte_of_a_prompt_is_changed(lmeraser: Run, copied: System) -> None:
    entry = next(entry for entry in clusters_of(copied) if entry["prompt_object"])
    name = entry["prompt_object"]
    prompt = Prompt.from_safetensors(copied.store.get(name), name).values.copy()
    prompt.view(np.uint8).reshape(-1)[0] ^= 1
    copied.store.put(name, Prompt(prompt).to_safetensors())
    options = ("--store", copied.store.uri, "--keys", copied.keys, "--cluster", entry["key"], "--processes", 1)
    shown = lmeraser("verify", *options, "--json")
    assert (shown.code, shown.json["equal"], shown.json["differing"]) == (1, False, [f"prompt/{entry['key']}"])
    assert shown.json["state_root"] != shown.json["fresh_root"]


def test_a_cluster_is_shown_with_all_names_and_objects(lmeraser: Run, case: Case) -> None:
    store = ("--store", case.system.store.uri)
    entry = max(case.system.newest().clusters, key=lambda each: len(each.segments))
    shown = lmeraser("clusters", "show", entry.key, *store)
    words = (line.split(maxsplit=1) for line in shown.out.replace("segment ", "segment-").splitlines())
    lines = {name: "".join(value) for name, *value in words}
    assert lines["key"] == entry.key and lines["prompt_object"] == (entry.prompt_object or "-")
    segments = lmeraser("clusters", "show", entry.key, *store, "--json").json["segments"]
    for number, segment in enumerate(segments, 1):
        assert lines[f"segment-{number}"] == ", ".join(segment["objects"])
