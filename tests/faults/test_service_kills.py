"""Serve loses a replica or its controller during a deletion: it completes, and predictions are answered again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from processes import REPLICA, kill, named
from small_system import System, picture, samples

from actors.remote.placement import StoreRef
from cluster.runtime import coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser import Client, Prediction
from lmeraser.config import ServingConfig
from lmeraser.errors import ServiceError

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local"), pytest.mark.timeout(600)]
SystemOf = Callable[..., System]
VICTIMS = {"replica": REPLICA, "controller": "ray::ServeController"}


@pytest.fixture
def served(system_of: SystemOf) -> Iterator[tuple[System, Client]]:
    system = system_of()
    coordinator_of(StoreRef(system.store.uri, str(system.keys)), system.manifest)
    url = start_service(system.store, system.keys, ServingConfig(), "127.0.0.1", free_port())
    with Client(url) as client:
        yield system, client
    stop_service()


def answered(client: Client, commit: int) -> Prediction:
    """A prediction from this commit or a later one."""
    until = time.monotonic() + 120
    while True:
        try:
            prediction = client.predict(picture(500))
            assert prediction.commit >= commit
            return prediction
        except ServiceError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def test_a_service_recovers_after_parts_of_it_are_killed_during_a_deletion(served: tuple[System, Client]) -> None:
    system, client = served
    for sample_id, victim in zip(("s3", "s40"), VICTIMS.values(), strict=True):
        deletion = client.delete(sample_ids=[sample_id])
        victims = named(victim)
        assert victims
        for pid in victims:
            kill(pid)
        until = time.monotonic() + 120
        while system.coordinator_says(deletion.id) != "completed":
            assert time.monotonic() < until
            time.sleep(0.1)
        answered(client, system.last_that_erased())
    rows = [row for row in samples(0, 90) if row.sample_id not in ("s3", "s40")]
    assert system.newest().root == system.fresh_root(rows)
