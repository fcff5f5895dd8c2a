"""A live store is rebuilt through Ray: predictions are answered, deletions erased, and replicas follow the switch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from caller import Caller
from named_actors import end_actors
from rebuilding import fresh_root
from small_system import System, picture, samples

from actors.remote.placement import StoreRef
from benchmarks.lib.background import meanwhile
from cluster.rebuild import rebuild
from cluster.runtime import coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser.client.client import Client
from lmeraser.config import Config, ServingConfig, StateConfig
from lmeraser.errors import ConfigError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]
SystemOf = Callable[..., System]
DELETED = tuple(f"s{number}" for number in range(1, 40))


def config_of(state: StateConfig, **changes: Any) -> Config:
    """A configuration file that asks for this state with these changes."""
    return Config(**{each.name: getattr(state, each.name) for each in fields(StateConfig)} | changes)


class Deleter:
    """Deletes one row after the other, and awaits each erasure."""

    def __init__(self, url: str) -> None:
        self.erased: list[str] = []
        self._url = url

    def until(self, ended: threading.Event) -> None:
        with Client(self._url) as client:
            for name in DELETED:
                if ended.is_set():
                    return
                deletion = client.delete(sample_ids=[name])
                self.erased.append(name)
                client.wait(deletion.id, status="erased", timeout_s=120)


def test_a_live_store_is_rebuilt_while_it_answers_and_erases(system_of: SystemOf, tmp_path: Path) -> None:
    system = system_of("minute", 60)
    before = system.manifest.config
    site = StoreRef(system.store.uri, str(system.keys))
    coordinator = coordinator_of(site, system.manifest)
    wanted = config_of(before, labels=(*before.labels, "violet"))
    with pytest.raises(ConfigError, match="nothing would change"):
        rebuild(coordinator, site, config_of(before), {}, lambda *_: None)
    with pytest.raises(ConfigError, match="'pink'"):
        rebuild(coordinator, site, wanted, {"pink": "violet"}, lambda *_: None)
    url = start_service(system.store, system.keys, ServingConfig(), "127.0.0.1", free_port())
    try:
        caller, deleter = Caller(url), Deleter(url)
        with meanwhile(caller.until), meanwhile(deleter.until):
            summary = rebuild(coordinator, site, wanted, {}, lambda *_: None)
        with Client(url) as client:
            for deletion in client.deletions():
                client.wait(deletion.id, timeout_s=200)
            answered = client.predict(picture(401))
    finally:
        stop_service()
        end_actors(system.manifest.store_id)
    assert caller.failed == [] and caller.answers > 5
    assert deleter.erased
    assert (summary.fitted, summary.passed, summary.resumed) == (False, "nothing", False)
    assert "violet" in answered.probabilities
    rows = [row for row in samples(0, 60) if row.sample_id not in deleter.erased]
    assert system.newest().root == fresh_root(system, system.manifest.config, rows, tmp_path / "fresh")
    assert system.manifest.config.labels == (*before.labels, "violet")
