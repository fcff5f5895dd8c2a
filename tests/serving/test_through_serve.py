"""What only Ray Serve shows: its proxy between the caller and the service, on an address of IPv6; its autoscaler."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import httpx2
import pytest
from named_actors import end_actors
from ray import serve
from small_system import System, picture

from actors.remote.placement import StoreRef
from cluster.rollout import roll
from cluster.runtime import coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser import Client, Prediction
from lmeraser.config import AutoscalingConfig, Config, ServingConfig
from lmeraser.errors import AuthenticationError, ServiceError, ServiceUnavailableError
from serving.api_keys import FILE, create_api_key
from serving.app import SERVICE
from serving.front import MAX_HEAD_BYTES

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local"), pytest.mark.timeout(600)]
SystemOf = Callable[..., System]


@pytest.fixture
def served(system_of: SystemOf) -> Iterator[tuple[System, int]]:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port: int = probe.getsockname()[1]
    system = system_of()
    coordinator_of(StoreRef(system.store.uri, str(system.keys)), system.manifest)
    start_service(system.store, system.keys, ServingConfig(), "::1", port)
    yield system, port
    stop_service()


def test_serves_proxy_names_a_request_once_bounds_its_head_and_listens_on_ipv6(served: tuple[System, int]) -> None:
    system, port = served
    url = f"http://[::1]:{port}"
    with Client(url) as client:
        assert isinstance(client.predict(picture(1)), Prediction)
        with pytest.raises(ServiceError) as caught:
            client.deletion("none")
        assert caught.value.request_id and "," not in caught.value.request_id
    for given in (None, "mine-17"):
        answer = httpx2.get(f"{url}/v1/deletions/none", headers={"X-Request-ID": given} if given else {})
        (named,) = answer.headers.get_list("x-request-id")
        assert answer.json()["request_id"] == named == (given or named)
    assert httpx2.head(f"{url}/readyz").status_code == 200
    assert httpx2.get(f"{url}/v1/commit", headers={"Host": "evil.example"}).status_code == 421
    assert httpx2.get(f"{url}/v1/commit", headers={"X-Real-IP": "203.0.113.9"}).status_code == 401

    with closing(socket.create_connection(("::1", port), timeout=60)) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"a" * MAX_HEAD_BYTES)
        assert connection.recv(65536).startswith(b"HTTP/1.1 431 ")

    _, secret = create_api_key(system.keys, ["predict"])
    with Client(url, api_key=secret) as client, Client(url) as nobody:
        assert isinstance(client.predict(picture(1)), Prediction)
        (system.keys / FILE).rename(system.keys / "away")
        with pytest.raises((ServiceUnavailableError, AuthenticationError)):
            nobody.predict(picture(1))
        (system.keys / "away").rename(system.keys / FILE)
        with pytest.raises(AuthenticationError):
            nobody.predict(picture(1))


def test_serve_scales_between_the_bounds_and_a_rollout_changes_them(system_of: SystemOf) -> None:
    system = system_of()
    site = StoreRef(system.store.uri, str(system.keys))
    coordinator_of(site, system.manifest)
    # One that is kept, and room for one more while it is replaced.
    scaling = AutoscalingConfig(min_replicas=1, max_replicas=2, target_ongoing_requests=8)
    url = start_service(system.store, system.keys, ServingConfig(autoscaling=scaling), "127.0.0.1", free_port())
    try:
        assert scaling_of_serve() == (1, 2, 8)
        more = AutoscalingConfig(min_replicas=1, max_replicas=3, target_ongoing_requests=4)
        result = roll(site, Config(serving=ServingConfig(autoscaling=more)), lambda *_: None)
        assert result.service
        assert scaling_of_serve() == (1, 3, 4)
        with Client(url) as client:
            assert isinstance(client.predict(picture(1)), Prediction)
    finally:
        stop_service()
        end_actors(system.manifest.store_id)


def scaling_of_serve() -> tuple[int, int, float]:
    """The bounds and the target that Serve has for the replicas that answer."""
    details = serve.context._get_global_client().get_serve_details()
    (application,) = details["applications"].values()
    config = application["deployments"][SERVICE]["deployment_config"]["autoscaling_config"]
    return config["min_replicas"], config["max_replicas"], config["target_ongoing_requests"]
