"""Ray's token: made for its owner alone, and found by every process of the project."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cluster.authentication import authenticate, token_path
from lmeraser.errors import ConfigError, LMEraserError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    # Set first, so that it is put back afterwards.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.delenv("RAY_AUTH_MODE")
    return tmp_path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_new_token_is_readable_only_by_its_owner(home: Path) -> None:
    before = os.umask(0)
    try:
        authenticate()
    finally:
        os.umask(before)
    assert token_path() == home / ".ray" / "auth_token"
    assert re.fullmatch(r"[0-9a-f]{64}", token_path().read_text())
    assert (mode(token_path()), mode(token_path().parent)) == (0o600, 0o700)
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert list(token_path().parent.iterdir()) == [token_path()]


def test_an_existing_token_is_kept_and_its_mode_is_tightened(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = home / "token"
    elsewhere.write_text("ab" * 32)
    elsewhere.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(elsewhere))
    authenticate()
    assert (elsewhere.read_text(), mode(elsewhere)) == ("ab" * 32, 0o600)
    assert not (home / ".ray").exists()


@pytest.mark.parametrize("variable", ["RAY_AUTH_MODE", "RAY_AUTH_TOKEN"])
def test_no_token_file_is_made_if_the_operator_configured_otherwise(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "disabled" if variable == "RAY_AUTH_MODE" else "ab" * 32)
    authenticate()
    assert not (home / ".ray").exists()
    assert os.environ["RAY_AUTH_MODE"] == ("disabled" if variable == "RAY_AUTH_MODE" else "token")


def test_processes_that_start_at_the_same_time_share_one_token(home: Path) -> None:
    def read(_: int) -> str:
        authenticate()
        return token_path().read_text()

    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(read, range(64)))) == 1
    assert list((home / ".ray").iterdir()) == [token_path()]


def test_without_a_home_folder_the_error_says_what_to_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    advice = "set HOME to a writable folder, or RAY_AUTH_TOKEN_PATH to a file in one"
    with pytest.raises(ConfigError, match=advice):
        authenticate()
    monkeypatch.setenv("HOME", "/proc/nowhere")
    with pytest.raises(
        LMEraserError, match=rf"cannot make or read Ray's token /proc/nowhere/.ray/auth_token: .*; {advice}"
    ):
        authenticate()
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "token"))
    authenticate()
    assert mode(home / "token") == 0o600


def test_ray_finds_the_token_at_a_path_with_a_tilde(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As a service manager sets it, which expands nothing.
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "~/token")
    authenticate()
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(home / "token")
    assert mode(home / "token") == 0o600


def test_ray_is_pinned_to_a_minor_version_because_its_private_config_is_called() -> None:
    # ray._raylet.Config is no public interface: any minor version may rename it, and then nothing would turn the token
    # on. Before the pin is raised, look whether the tests of this file still hold.
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    listed = map(Requirement, [*project["dependencies"], *(name for names in extras for name in names)])
    pins = [requirement.specifier for requirement in listed if requirement.name == "ray"]
    installed = importlib.metadata.version("ray")
    major, minor = map(int, installed.split(".")[:2])
    assert pins
    for pin in pins:
        assert installed in pin
        assert f"{major}.{minor + 1}.0" not in pin

    from ray._raylet import Config  # type: ignore[attr-defined]

    assert callable(Config.initialize)
