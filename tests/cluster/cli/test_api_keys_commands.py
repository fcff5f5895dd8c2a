"""``lmeraser api-keys create``, ``list`` and ``revoke``, and what ``serve`` says without keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Run
from direct_service import Service
from live_service import live
from small_system import System, picture

from serving.api_keys import ApiKeys, create_api_key

SystemOf = Callable[..., System]


def test_a_key_is_printed_once_and_works_until_it_is_revoked(lmeraser: Run, tmp_path: Path) -> None:
    folder = ("--keys", tmp_path / "keys")
    options = ("--scope", "predict", "--scope", "delete", "--name", "shop front")
    made = lmeraser("api-keys", "create", *options, *folder, "--json").json
    assert (made["name"], made["scopes"]) == ("shop front", ["predict", "delete"])
    key = ApiKeys(tmp_path / "keys").find(made["key"])
    assert key is not None and key.id == made["id"]
    listed = lmeraser("api-keys", "list", *folder, "--json")
    assert made["key"] not in listed.out
    assert listed.json == {"keys": [{name: made[name] for name in made if name != "key"}]}
    assert lmeraser("api-keys", "revoke", made["id"], *folder, "--json").json["revoked_at"]
    assert ApiKeys(tmp_path / "keys").find(made["key"]) is None
    assert lmeraser("api-keys", "list", *folder, "--json").json["keys"][0]["revoked_at"]


def test_keys_are_shown_as_tables(lmeraser: Run, tmp_path: Path) -> None:
    folder = ("--keys", tmp_path / "keys")
    printed = lmeraser("api-keys", "create", "--scope", "admin", "--name", "ops", *folder).out
    secret = printed.split()[-1]
    key = ApiKeys(tmp_path / "keys").find(secret)
    assert key is not None
    listed = lmeraser("api-keys", "list", *folder).out
    assert all(word in listed for word in (key.id, "ops", "admin", key.created_at))
    assert secret not in listed
    assert key.id in lmeraser("api-keys", "revoke", key.id, *folder).out


def test_a_usage_error_names_the_mistake(lmeraser: Run, tmp_path: Path) -> None:
    folder = ("--keys", tmp_path / "keys")
    lmeraser("api-keys", "create", *folder).failed(2, "--scope")
    lmeraser("api-keys", "create", "--scope", "all", *folder).failed(
        2, "'all'", "predict, delete, approve, hold, read, admin"
    )
    lmeraser("api-keys", "revoke", "none", *folder).failed(2, "'none'", "lmeraser api-keys list")


def test_serving_strangers_without_keys_is_refused(lmeraser: Run, system_of: SystemOf, tmp_path: Path) -> None:
    options = ("--store", system_of().store.uri, "--keys", tmp_path / "keys")
    for host in ("0.0.0.0", "::", "example.org"):
        lmeraser("serve", *options, "--host", host).failed(2, host, "lmeraser api-keys create", "127.0.0.1")


def test_predict_reads_its_key_from_the_environment(
    lmeraser: Run, system_of: SystemOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = system_of()
    (tmp_path / "sign.png").write_bytes(picture(7))
    secret = create_api_key(system.keys, ["predict"])[1]
    with live(Service(system)) as url:
        arguments = ("predict", tmp_path / "sign.png", "--url", url, "--json")
        monkeypatch.delenv("LMERASER_API_KEY", raising=False)
        lmeraser(*arguments).failed(1, "scope 'predict'")
        monkeypatch.setenv("LMERASER_API_KEY", f"{secret}\n")
        broken = lmeraser(*arguments)
        broken.failed(2, "LMERASER_API_KEY")
        assert secret not in broken.err
        monkeypatch.setenv("LMERASER_API_KEY", secret)
        assert lmeraser(*arguments).json["predictions"][0]["label"]
