"""Locations of stores: one folder is one store, however its path is spelled, and other paths are refused."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from lmeraser.errors import ConfigError, StoreError
from lmeraser.store import open_store


@pytest.mark.parametrize("before", ["", "file://"])
def test_a_local_path_opens_a_folder(tmp_path: Path, before: str) -> None:
    store = open_store(f"{before}{tmp_path}/store")
    store.put("a", b"1")
    assert (tmp_path / "store" / "a").read_bytes() == b"1"
    assert store.uri == str(tmp_path / "store")


def test_a_relative_path_does_not_move_with_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = open_store("store")
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.put("a", b"1")
    assert (tmp_path / "store" / "a").read_bytes() == b"1"


SPELLINGS = [
    "{folder}/store/",
    "{folder}//store",
    "{folder}/other/../store",
    "{folder}/link",
    "{folder}/link/../store",
    "{folder}/folders/store",
    "store",
    "./link",
    "~/store",
    "~/link",
    "file://{folder}/store",
    "file://{folder}/link",
    "file:{folder}/store",
    "file://localhost{folder}/store/",
    "file:~/store",
]


@pytest.mark.parametrize("made", [True, False], ids=["there", "not yet there"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_one_folder_is_one_store_however_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str, made: bool
) -> None:
    if made:
        (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to("store")
    (tmp_path / "folders").symlink_to(".")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "folders"))
    uri = spelling.format(folder=tmp_path)
    assert open_store(uri).uri == str(tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("~")] == []


@pytest.mark.parametrize("uri", ["file://other/store", "file:store", "file://"])
def test_a_file_uri_of_another_machine_is_refused(uri: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{uri!r} is not a path of this machine; allowed is file:///path")):
        open_store(uri)


def test_a_loop_of_links_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ConfigError, match=r"cannot follow the links in .*/a"):
        open_store(str(tmp_path / "a"))


def test_an_unknown_home_folder_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(ConfigError, match="'~/store' is: set HOME, or name the folder from the root"):
        open_store("~/store")


@pytest.mark.parametrize("uri", ["gs://bucket", "http://host/a", "FILE:///a", "://a"])
def test_an_unknown_scheme_is_refused_and_what_is_allowed_is_named(uri: str) -> None:
    with pytest.raises(StoreError, match=re.escape(f"{uri!r} has the scheme")) as caught:
        open_store(uri)
    assert "file://" in str(caught.value)


def test_without_a_store_the_error_says_how_to_name_one() -> None:
    with pytest.raises(StoreError, match="--store"):
        open_store("")
