"""A user's mistake gives one sentence that names it, an exit code, and an unchanged store."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Run
from small_system import System, picture, samples

from actors.incoming import put_rows
from cluster import runtime
from lmeraser.deletion import DeletionRequest
from lmeraser.state.keys import init_keys
from lmeraser.state.manifest import FORMAT

SystemOf = Callable[..., System]


def written(folder: Path, **parts: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(parts))
    return folder / "config.yaml"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"partition": {"anchor": 12}}, ("partition.anchor",)),
        ({"partion": {}}, ("partion",)),
        ({"heads": {"head_dim": 3}}, ("heads.head_dim", "8", "got 3")),
        ({"serving": {"specialist_weight": 1.5}}, ("serving.specialist_weight", "1", "got 1.5")),
        ({"prompt": {"kind": "words"}}, ("prompt.kind", "'pad' or 'token'", "got 'words'")),
        ({"private": {"kind": "parquet"}}, ("private", "needs path")),
        ({"private": {"kind": "digits", "path": "${data}/x"}}, ("${data}", "--data")),
        ({"store": "$"}, ("config.yaml",)),
    ],
    ids=["key", "section", "below", "above", "choice", "path", "variable", "dollar"],
)
def test_a_wrong_configuration_names_the_key_and_what_is_allowed(
    lmeraser: Run, tmp_path: Path, parts: dict[str, Any], message: tuple[str, ...]
) -> None:
    config = written(tmp_path, **parts)
    for command in ("ingest", "pretrain"):
        lmeraser(command, "--config", config, "--store", tmp_path / "store").failed(2, *message)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"a: [",
        b"- 1\n- 2\n",
        b"store: caf\xe9\n",
    ],
    ids=["YAML", "list", "UTF-8"],
)
def test_a_file_that_is_not_a_configuration_is_named(lmeraser: Run, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "odd.yaml").write_bytes(data)
    lmeraser("ingest", "--config", tmp_path / "odd.yaml").failed(2, "odd.yaml")


READERS = ["status", "verify", "tune", "serve", "clusters list", "clusters show x", "deletions list"]
READERS += ["deletions show x", "log show", "log check", "delete --sample-id x", "deletions wait x", "receipt show x"]


@pytest.mark.parametrize("command", READERS)
def test_a_missing_store_or_one_of_another_format_is_refused(
    lmeraser: Run, system_of: SystemOf, tmp_path: Path, command: str
) -> None:
    system = system_of()
    options = ("--keys", system.keys) if command in ("verify", "tune", "serve") else ()
    lmeraser(*command.split(), "--store", tmp_path / "nowhere", *options).failed(1, "nowhere", "is not a store")
    assert not (tmp_path / "nowhere").exists()
    value = json.loads(system.store.get("store.json"))
    system.store.put("store.json", json.dumps({**value, "format": 99}).encode())
    lmeraser(*command.split(), "--store", system.store.uri, *options).failed(1, "format 99", f"to {FORMAT}")


def test_a_lease_that_is_not_the_stores_is_refused_before_anything_starts(
    lmeraser: Run, system_of: SystemOf, tmp_path: Path
) -> None:
    system = system_of()
    (tmp_path / "config.yaml").write_text(f"store: {system.store.uri}\nlease_s: 3\n")
    for command in ("serve", "rollout"):
        done = lmeraser(*command.split(), "--config", tmp_path / "config.yaml", "--keys", system.keys)
        done.failed(2, "lease_s is 3 in the configuration and 0.4 in the store", "remove lease_s")


def test_an_incomplete_store_json_is_refused(lmeraser: Run, tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"format": FORMAT}))
    lmeraser("status", "--store", tmp_path).failed(1, "store.json")


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("status", 2, "--store"),
        ("status --store gopher://host/x", 1, "'gopher'"),
        ("status --store STORE --jsn", 2, "--jsn"),
        ("clusters show none --store STORE", 2, "'none'"),
        ("deletions show none --store STORE", 1, "'none'"),
        ("deletions wait none --store STORE", 1, "'none'"),
        ("deletions wait none --status gone --store STORE", 2, "accepted, erased, completed"),
        ("receipt show none --store STORE", 1, "none"),
        ("receipt verify FOLDER/none --public-key FOLDER/text", 2, "none"),
        ("receipt verify FOLDER/text --public-key FOLDER/text", 1, "is not JSON"),
        ("receipt verify FOLDER/list.json --public-key FOLDER/text", 1, "is not a receipt"),
        ("receipt verify FOLDER/object.json --public-key FOLDER/text", 1, "is not PEM"),
        ("receipt verify FOLDER/object.json --public-key KEYS/signing-key.pub.pem", 1, "signature"),
        ("verify --store STORE --keys FOLDER/none", 1, "lmeraser keys init"),
        ("verify --store STORE --keys OTHER", 1, "hash key is not the one"),
        ("verify --store STORE --keys KEYS --cluster none", 2, "'none'"),
        ("delete --store STORE", 2, "nothing is named"),
        ("delete --store STORE --ids-file FOLDER/empty", 2, "FOLDER/empty holds no id"),
        ("delete --store STORE --ids-file FOLDER/none", 2, "FOLDER/none"),
        ("delete --store STORE --ids-file FOLDER", 2, "cannot read FOLDER"),
        ("delete --store STORE --ids-file FOLDER/binary", 2, "FOLDER/binary"),
        ("delete --store STORE --sample-id s1 --wait soon", 2, "'soon'"),
        ("deletions retry none --store STORE --timeout -1", 2, "--timeout"),
        ("residue --store STORE --ids-file FOLDER/none", 2, "FOLDER/none"),
        ("residue --store STORE", 2, "nothing to search for"),
        ("residue --store STORE --ids-file FOLDER/empty", 2, "holds no id"),
        ("residue --store STORE --keys OTHER --ids-file FOLDER/text", 1, "hash key is not the one"),
        (
            "residue --store STORE --keys KEYS --ids-file FOLDER/text --images FOLDER/text",
            2,
            "FOLDER/text is not a folder",
        ),
        ("serve --store STORE --port 70000", 2, "65535"),
        ("ingest --store STORE", 2, "--config"),
        ("predict", 2, "either image files or --test"),
        ("predict FOLDER/text --test", 2, "either image files or --test"),
        ("predict --test", 2, "--config"),
        ("predict --test --config FOLDER/config.yaml", 2, "test:"),
        ("predict FOLDER/none.png", 1, "FOLDER/none.png"),
        ("predict FOLDER/text --url localhost:8000", 2, "localhost:8000"),
        ("predict FOLDER/text --url http://127.0.0.1:1", 1, "no answer"),
        ("keys init --keys FOLDER/text", 1, "FOLDER/text"),
    ],
)
def test_an_error_names_the_wrong_value(
    lmeraser: Run,
    system_of: SystemOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    system = system_of()
    init_keys(tmp_path / "other")
    folder = written(tmp_path / "folder", seed=1).parent
    files = {"empty": b"", "binary": b"\xff\xfe", "text": b"text", "list.json": b"[]", "object.json": b"{}"}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    paths = {"STORE": system.store.uri, "KEYS": system.keys, "OTHER": tmp_path / "other", "FOLDER": folder}
    for name, path in paths.items():
        command, message = command.replace(name, str(path)), message.replace(name, str(path))
    before = {name: system.store.get(name) for name in system.store.names()}
    lmeraser(*command.split()).failed(code, message)
    assert {name: system.store.get(name) for name in system.store.names()} == before


def test_an_interrupted_ingest_leaves_no_image_once_its_rows_are_erased(system_of: SystemOf) -> None:
    system = system_of()
    coordinator = system.coordinator()
    rows = system.pipeline().rows(samples(200, 210))
    # The first writer is interrupted before it asks for the commit; the second does what it had begun.
    put_rows(system.store, system.hash_key, f"{coordinator.begin_ingest()}rows", rows, seed=system.manifest.config.seed)
    prefix = coordinator.begin_ingest()
    put_rows(system.store, system.hash_key, f"{prefix}rows", rows, seed=system.manifest.config.seed)
    done = coordinator.ingest(prefix)
    while not coordinator.idle():
        coordinator.step()
    assert done.result(timeout=0).added == 10
    coordinator.delete(DeletionRequest(("s203",)))
    while not coordinator.idle():
        coordinator.step()
    assert [name for name in system.store.names() if picture(203) in system.store.get(name)] == []


def test_a_tilde_in_the_paths_of_the_store_and_the_keys_is_expanded(
    lmeraser: Run, system_of: SystemOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = system_of("minute", 24)
    monkeypatch.setenv("HOME", str(Path(system.store.uri).parent))
    monkeypatch.chdir(tmp_path)
    name = Path(system.store.uri).name
    config = written(tmp_path / "folder", store=f"~/{name}")
    for options in (("--config", config), ("--store", f"~/{name}"), ("--store", f"file:~/{name}/")):
        assert lmeraser("status", *options, "--json").json["store"] == system.store.uri
    keys = f"~/{system.keys.name}"
    assert lmeraser("api-keys", "create", "--scope", "predict", "--keys", keys).code == 0
    # As a service manager sets it, which expands nothing.
    monkeypatch.setenv("LMERASER_KEYS", keys)
    assert len(lmeraser("api-keys", "list", "--json").json["keys"]) == 1
    assert not list(tmp_path.rglob("~*"))


def test_without_a_home_folder_the_error_says_what_to_set(lmeraser: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.getuid", lambda: 54321)
    lmeraser("api-keys", "list").failed(2, "set HOME, or LMERASER_KEYS, or pass --keys")


def test_a_disk_without_hard_links_is_refused_before_any_public_row_is_read(
    lmeraser: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    init_keys(tmp_path / "keys")
    config = written(tmp_path, private={"kind": "digits"}, public={"kind": "image_folder", "path": "/nowhere"})
    monkeypatch.setattr(runtime, "connect", lambda: None)
    monkeypatch.setattr(os, "link", no_link)
    at = ("--store", tmp_path / "store", "--keys", tmp_path / "keys")
    lmeraser("ingest", "--config", config, *at).failed(1, "no hard links", "ext4")
