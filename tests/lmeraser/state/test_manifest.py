"""What a store is, as it says itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from small_system import System

from lmeraser.errors import ConfigError, StoreFormatError
from lmeraser.state.layout import MANIFEST
from lmeraser.state.manifest import create_manifest, default_lease_s, load_manifest
from lmeraser.store import LocalStore, open_store

SystemOf = Callable[..., System]


def test_a_store_keeps_the_lease_that_it_was_created_with(system_of: SystemOf, tmp_path: Path) -> None:
    config = system_of("minute", 0).manifest.config
    store = LocalStore(tmp_path / "other")
    create_manifest(store, config, {}, {}, {}, lease_s=3.0)
    manifest = load_manifest(store)
    assert manifest.lease_s == 3.0
    for same in (None, 3, 3.0):
        manifest.check_lease(same)
    with pytest.raises(ConfigError, match=r"lease_s is 0\.4 in the configuration and 3 in the store.*make a new store"):
        manifest.check_lease(0.4)


def test_a_bucket_gets_a_longer_lease_than_a_folder(system_of: SystemOf, tmp_path: Path) -> None:
    assert system_of("minute", 0).manifest.lease_s == default_lease_s(LocalStore(tmp_path)) == 0.4
    assert default_lease_s(open_store("s3://bucket/store?endpoint=http://localhost:1")) == 2.0


def test_a_store_without_a_valid_lease_is_refused(system_of: SystemOf) -> None:
    store = system_of("minute", 0).store
    value = json.loads(store.get(MANIFEST))
    for lease_s in (0, -1, "long", float("nan"), float("inf"), None):
        store.put(MANIFEST, json.dumps({**value, "lease_s": lease_s}).encode())
        with pytest.raises(StoreFormatError, match="lease_s"):
            load_manifest(store)
    del value["lease_s"]
    store.put(MANIFEST, json.dumps(value).encode())
    with pytest.raises(StoreFormatError, match=r"missing.*lease_s"):
        load_manifest(store)
