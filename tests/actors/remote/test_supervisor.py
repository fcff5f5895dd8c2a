"""A coordinator that Ray has given up is started again, unless another Ray cluster's works on the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from named_actors import end_actors
from ray.exceptions import ActorDiedError, RayActorError
from small_system import System, finish
from until import until

from actors.remote.names import NAMESPACE, coordinator_name
from actors.remote.placement import StoreRef
from actors.remote.supervisor import LOOK_S, QUIET_S, REPLACED_LOOK_S, Supervisor
from lmeraser.config import OwnersConfig
from lmeraser.deletion import DeletionRequest
from lmeraser.errors import FencedError
from lmeraser.state.log import Log

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]
SystemOf = Callable[..., System]


@dataclass
class Site:
    """A store whose coordinator is supervised, under a clock that the test moves."""

    system: System
    now_s: float = 0.0

    def __post_init__(self) -> None:
        ref = StoreRef(self.system.store.uri, str(self.system.keys))
        self.supervisor = Supervisor(ref, OwnersConfig(), clock=lambda: self.now_s)

    def coordinator(self) -> Any | None:
        name = coordinator_name(self.system.manifest.store_id, self.system.store.uri)
        try:
            return ray.get_actor(name, namespace=NAMESPACE)
        except ValueError:
            return None

    def term(self) -> int:
        coordinator = self.coordinator()
        assert coordinator is not None
        return int(ray.get(coordinator.status.remote()).term)

    def newest_term(self) -> int:
        return Log(self.system.store).advance()[-1].term

    def ends(self) -> None:
        """Wait until Ray has given the coordinator up."""
        until(lambda: self.coordinator() is None or None, 60)


@pytest.fixture
def site(system_of: SystemOf) -> Iterator[Site]:
    system = system_of("minute", 12)
    yield Site(system)
    end_actors(system.manifest.store_id)


def test_a_coordinator_that_was_ended_for_good_is_started_again(site: Site) -> None:
    assert site.coordinator() is None
    assert site.supervisor.look() == LOOK_S
    first = site.term()
    assert site.supervisor.look() == LOOK_S
    assert site.term() == first
    ray.kill(site.coordinator())
    site.ends()
    assert site.supervisor.look() == LOOK_S
    assert site.term() == first + 1


@pytest.mark.parametrize("lost", ["keys/signing-key.pem", "store/rows"])
def test_a_coordinator_whose_start_failed_is_started_again(site: Site, lost: str) -> None:
    kind, _, name = lost.partition("/")
    path = {"keys": site.system.keys, "store": Path(site.system.store.uri)}[kind] / name
    site.supervisor.look()
    ray.kill(site.coordinator())
    site.ends()
    before = site.newest_term()
    path.rename(path.with_suffix(".away"))
    with pytest.raises(ActorDiedError):
        site.supervisor.look()
    # Where rows are missing, it has opened a term, which must not pass for that of another cluster.
    assert site.newest_term() == before + (kind == "store")
    path.with_suffix(".away").rename(path)
    assert site.supervisor.look() == LOOK_S
    assert site.term() == site.newest_term()


def test_a_replaced_coordinator_returns_once_the_other_cluster_has_been_silent_for_long(site: Site) -> None:
    site.supervisor.look()
    own: Any = site.coordinator()
    other = site.system.coordinator()
    # It may have noticed, and ended, before the call.
    with pytest.raises((FencedError, RayActorError)):
        ray.get(own.delete.remote(DeletionRequest(("s3",))))
    site.ends()
    assert site.supervisor.look() == REPLACED_LOOK_S
    site.now_s += QUIET_S - 1
    other.delete(DeletionRequest(("s4",)))
    finish(other)
    # Its records show that it works.
    assert site.supervisor.look() == REPLACED_LOOK_S
    site.now_s += QUIET_S - 1
    assert site.supervisor.look() == REPLACED_LOOK_S
    assert site.coordinator() is None
    site.now_s += 1
    assert site.supervisor.look() == LOOK_S
    with pytest.raises(FencedError):
        other.delete(DeletionRequest(("s5",)))
    assert site.system.newest().rows == 11
