"""With two replicas, a client that retries does not notice the end of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from outages import LONGEST_S, VICTIMS, outage, steady
from processes import named
from small_system import System
from until import until

from cluster.runtime import free_port
from cluster.service import start_service, stop_service
from lmeraser.config import ServingConfig

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local"), pytest.mark.timeout(600)]
SystemOf = Callable[..., System]


@pytest.fixture
def url(system_of: SystemOf) -> Iterator[str]:
    system = system_of("minute", 24)
    yield start_service(system.store, system.keys, ServingConfig(replicas=2), "127.0.0.1", free_port())
    stop_service()


def test_with_two_replicas_no_request_fails_when_one_is_killed(url: str) -> None:
    with steady(url, per_second=4) as load:
        until(lambda: load.is_calm() or None, LONGEST_S)
        replicas = named(VICTIMS["replica"])
        assert len(replicas) == 2
        result = outage("replica", 2, load, replicas[0], comes_back=False)
        until(lambda: len(named(VICTIMS["replica"])) == 2 or None, LONGEST_S)
    assert result.requested > 0
    assert result.errors == ()
    assert replicas[0] not in named(VICTIMS["replica"])
