"""API keys in the key folder: what is stored, what changes it, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lmeraser.errors import ConfigError, KeysError
from lmeraser.loopback import is_loopback
from serving.api_keys import (
    FILE,
    SCOPES,
    ApiKeys,
    check_listening,
    create_api_key,
    read_api_keys,
    revoke_api_key,
)


def test_the_file_holds_the_digest_and_not_the_key(tmp_path: Path) -> None:
    key, secret = create_api_key(tmp_path / "keys", ["delete", "predict", "delete"], "shop")
    content = (tmp_path / "keys" / FILE).read_text()
    assert secret not in content and secret.removeprefix("lmeraser_") not in content
    assert json.loads(content)[0]["sha256"] == hashlib.sha256(secret.encode()).hexdigest()
    assert (key.name, key.scopes, key.revoked_at) == ("shop", ("predict", "delete"), None)
    assert key.sha256 not in repr(key)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_file_is_readable_by_its_owner_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        for _ in range(2):
            create_api_key(tmp_path / "keys", ["admin"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "keys" / FILE).stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [FILE]


def test_keys_have_256_random_bits(tmp_path: Path) -> None:
    secrets = {create_api_key(tmp_path, ["predict"])[1] for _ in range(50)}
    assert len(secrets) == 50
    for secret in secrets:
        # 43 characters of 6 bits are the shortest that hold 256.
        assert re.fullmatch(r"lmeraser_[A-Za-z0-9_-]{43}", secret)


def test_a_key_is_found_until_it_is_revoked_and_stays_in_the_file(tmp_path: Path) -> None:
    keys = ApiKeys(tmp_path)
    first, first_secret = create_api_key(tmp_path, ["predict"])
    second, second_secret = create_api_key(tmp_path, ["admin"])
    assert (keys.find(first_secret), keys.find(second_secret)) == (first, second)
    revoked = revoke_api_key(tmp_path, first.id)
    assert (keys.find(first_secret), keys.find(second_secret)) == (None, second)
    assert revoke_api_key(tmp_path, first.id) == revoked
    assert keys.current() == read_api_keys(tmp_path) == (revoked, second)


def test_admin_allows_everything_and_a_scope_only_itself(tmp_path: Path) -> None:
    for granted in SCOPES:
        key, _ = create_api_key(tmp_path, [granted], "somebody")
        assert {scope for scope in SCOPES if key.allows(scope)} == (set(SCOPES) if granted == "admin" else {granted})
        assert not any(revoke_api_key(tmp_path, key.id).allows(scope) for scope in SCOPES)


@pytest.mark.parametrize("scopes", [[], ["write"], ["predict", "Admin"]])
def test_unknown_scopes_are_refused(tmp_path: Path, scopes: list[str]) -> None:
    with pytest.raises(ConfigError, match="allowed are one or more of predict, delete, approve, hold, read, admin"):
        create_api_key(tmp_path, scopes)
    assert list(tmp_path.iterdir()) == []


def test_the_error_for_an_unknown_id_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'none'"):
        revoke_api_key(tmp_path, "none")


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'[{"id": "a"}]', b'[{"id":"a","name":"","scopes":["all"],"created_at":"","sha256":"00"}]']
)
def test_a_file_without_api_keys_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    (tmp_path / FILE).chmod(0o600)
    for use in (
        read_api_keys,
        lambda folder: create_api_key(folder, ["admin"]),
        lambda folder: ApiKeys(folder).find(""),
    ):
        with pytest.raises(KeysError, match="is not a file of API keys"):
            use(tmp_path)
    assert (tmp_path / FILE).read_bytes() == content


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    create_api_key(tmp_path, ["admin"])
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(KeysError, match="may be read by others"):
        read_api_keys(tmp_path)


def test_the_error_for_an_unusable_folder_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for use in (lambda folder: create_api_key(folder, ["admin"]), read_api_keys):
        with pytest.raises(KeysError, match=re.escape(str(tmp_path / "file"))):
            use(tmp_path / "file")


def test_keys_that_are_created_at_the_same_time_are_all_stored(tmp_path: Path) -> None:
    # The lock belongs to the open folder, so it works between threads as it does between processes.
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda _: create_api_key(tmp_path, ["predict"])[0], range(40)))
    assert {key.id for key in read_api_keys(tmp_path)} == {key.id for key in created}
    assert len({key.id for key in created}) == 40


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "", "127.0.0.1.example.org", "128.0.0.1"])
def test_listening_for_other_machines_needs_a_key(tmp_path: Path, host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match="lmeraser api-keys create"):
        check_listening(tmp_path, host)
    create_api_key(tmp_path, ["predict"])
    check_listening(tmp_path, host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_listening_for_this_machine_needs_no_key(tmp_path: Path, host: str) -> None:
    check_listening(tmp_path, host)
