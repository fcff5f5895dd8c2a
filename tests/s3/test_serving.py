"""A replica whose store is a bucket that answers slowly: real HTTP through a proxy that delays every request."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from small_system import System, picture
from until import until

from benchmarks.lib.s3_proxy import S3Proxy, s3_proxy
from benchmarks.lib.s3_server import S3Server
from lmeraser.config import ServingConfig
from lmeraser.errors import NotReadyError
from lmeraser.state.layout import record_object
from lmeraser.state.log import Log
from lmeraser.state.manifest import default_lease_s
from lmeraser.store import open_store
from serving.renewal import POLLS_PER_LEASE
from serving.replica import Replica

SystemOf = Callable[..., System]
DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "s3.md"


@pytest.fixture
def medium() -> str:
    return "s3"


@pytest.fixture
def proxied(system_of: SystemOf, s3: S3Server) -> Iterator[tuple[System, S3Proxy]]:
    """A system in a bucket, with the lease of one, seen through a proxy."""
    system = system_of("minute", 24)
    system.with_lease(default_lease_s(system.store))
    with s3_proxy(s3.endpoint) as proxy:
        yield replace(system, store=open_store(system.store.uri.replace(s3.endpoint, proxy.endpoint))), proxy


def answered(replica: Replica, enough: Callable[[int], bool], clients: int = 8) -> set[int]:
    """The commits from which clients were answered; each client repeats until its last commit is enough."""

    async def predict(commits: set[int]) -> None:
        commit = 0
        while not enough(commit):
            body = await replica.predict([picture(500)], "request")
            commit = json.loads(body)["commit"]
            commits.add(commit)

    async def run() -> set[int]:
        commits: set[int] = set()
        await asyncio.gather(*(predict(commits) for _ in range(clients)))
        return commits

    return asyncio.run(run())


@pytest.mark.slow
def test_with_150_ms_per_request_no_prediction_is_refused_while_rows_are_deleted(
    proxied: tuple[System, S3Proxy], s3: S3Server
) -> None:
    system, proxy = proxied
    replica = Replica(system.store, system.keys, ServingConfig())
    proxy.fault = lambda _method, _path: time.sleep(0.15)
    at_the_server = replace(system, store=open_store(system.store.uri.replace(proxy.endpoint, s3.endpoint)))

    def delete(number: int) -> int:
        """The number of the commit that erased one more row."""
        at_the_server.delete(f"s{number}")
        return at_the_server.last_that_erased()

    def covers(erased: Future[int], commit: int) -> bool:
        return erased.done() and commit >= erased.result()

    with ThreadPoolExecutor(1) as deletions:
        for number in range(3):
            erased = deletions.submit(delete, number)
            answered(replica, partial(covers, erased))


@pytest.mark.slow
def test_an_idle_replica_sends_its_bucket_only_polls(proxied: tuple[System, S3Proxy]) -> None:
    system, proxy = proxied
    replica = Replica(system.store, system.keys, ServingConfig())
    last = Log(system.store).advance()[-1].number
    start = len(proxy.requests)
    answered(replica, lambda _commit: len(proxy.requests) - start >= 8)
    requests = Counter(proxy.requests[start:])
    path = proxy.requests[start].split(" ")[1].rpartition("/log/")[0]
    expected = {f"GET {path}/{record_object(last + 1)}", f"HEAD {path}/{record_object(last)}"}
    assert set(requests) == expected
    # One of each per poll; the last poll may be under way.
    assert max(requests.values()) - min(requests.values()) <= 1
    per_second = len(expected) * POLLS_PER_LEASE / system.manifest.lease_s
    assert f"{per_second:g} requests per second" in " ".join(DOCUMENT.read_text().split())


@pytest.mark.slow
def test_a_replica_answers_again_once_its_bucket_is_back(proxied: tuple[System, S3Proxy]) -> None:
    system, proxy = proxied
    system.with_lease(0.2)
    replica = Replica(system.store, system.keys, ServingConfig())
    number = replica.snapshot().commit.number
    proxy.fault = lambda _method, _path: (403, "AccessDenied")

    def ready() -> bool:
        try:
            return replica.snapshot().commit.number == number
        except NotReadyError:
            return False

    until(lambda: not ready() or None, 30)
    proxy.fault = lambda _method, _path: None
    until(lambda: ready() or None, 30)
