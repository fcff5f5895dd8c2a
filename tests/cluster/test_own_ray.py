"""A Ray that an operator started: jobs, Serve by its configuration, and the token that all of it requires."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
import ray
import yaml
from processes import listening_beyond_loopback
from ray_head import Head, ray_head
from small_system import System, picture, samples

from cluster.runtime import free_port
from lmeraser import Client, Prediction
from lmeraser.errors import AuthenticationError
from serving.api_keys import create_api_key

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
SystemOf = Callable[..., System]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head() as started:
        yield started


def submit(head: Head, name: str, *command: str) -> subprocess.Popen[str]:
    """Start `ray job submit` from the project's folder, as the guides do."""
    options = ["--address", head.dashboard, "--submission-id", name, "--working-dir", "."]
    return subprocess.Popen(
        ["ray", "job", "submit", *options, "--", *command],
        cwd=ROOT,
        env={**head.environment, "RAY_AUTH_MODE": "token"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def exit_code_of_job(head: Head, name: str) -> int:
    """As the cluster keeps it."""
    bearer = {"Authorization": f"Bearer {head.token.read_text()}"}
    until = time.monotonic() + 60
    while True:
        details = httpx2.get(f"{head.dashboard}/api/jobs/{name}", headers=bearer).json()
        if details["driver_exit_code"] is not None:
            return int(details["driver_exit_code"])
        assert time.monotonic() < until, details
        time.sleep(0.2)


def test_jobs_report_their_progress_and_their_exit_codes(head: Head, system_of: SystemOf) -> None:
    system = system_of(rows=0)
    system.ingest(samples(0, 36), tuned=False)
    target = ("--store", system.store.uri, "--keys", str(system.keys))
    jobs = {
        "tuned": (0, submit(head, "tuned", "lmeraser", "tune", *target)),
        "failed": (1, submit(head, "failed", "lmeraser", "tune", *target[:3], str(system.keys / "none"))),
        "called-wrongly": (2, submit(head, "called-wrongly", "lmeraser", "tune")),
    }
    output = {name: job.communicate(timeout=500)[0] for name, (_, job) in jobs.items()}
    clusters = len(system.newest().clusters)
    assert f"tunings: {clusters} of {clusters}" in output["tuned"]
    assert re.search(rf"state_root +{system.fresh_root(samples(0, 36))}", output["tuned"])
    assert "keys init" in output["failed"]
    assert "no store is given" in output["called-wrongly"]
    assert not any("Traceback" in text for text in output.values()), output
    for name, (code, job) in jobs.items():
        # The command itself knows only success and failure.
        assert (job.returncode, exit_code_of_job(head, name)) == (min(code, 1), code), output[name]
        assert code == 0 or f"failed with exit code {code}" in output[name]


def test_only_the_token_opens_the_cluster(head: Head, system_of: SystemOf, tmp_path: Path) -> None:
    jobs = f"{head.dashboard}/api/jobs/"
    bearers: list[dict[str, str]] = [
        {},
        {"Authorization": f"Bearer {'0' * 64}"},
        {"Authorization": f"Bearer {head.token.read_text()}"},
    ]
    assert [httpx2.get(jobs, headers=bearer).status_code for bearer in bearers] == [401, 403, 200]
    assert httpx2.post(jobs, json={"entrypoint": "true"}).status_code == 401
    system = system_of(rows=0)
    command = ("lmeraser", "tune", "--store", system.store.uri, "--keys", str(system.keys), "--json")
    # A command finds the token by itself, without RAY_AUTH_MODE.
    ran = head.run(*command, RAY_ADDRESS=head.address)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["rows"] == 0
    other = tmp_path / "token"
    other.write_text("0" * 64)
    # One attempt: Ray tries for twenty seconds otherwise.
    wrong = {"RAY_AUTH_TOKEN_PATH": str(other), "RAY_NUM_REDIS_GET_RETRIES": "1"}
    refused = head.run(*command, RAY_ADDRESS=head.address, **wrong)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"the token in {other} is not that cluster's" in refused.stderr.replace("\n", " ")
    assert "Traceback" not in refused.stderr


@pytest.mark.usefixtures("ray_local")
def test_a_cluster_of_one_machine_listens_only_on_loopback(head: Head) -> None:
    """Also the metrics, which need no token; for a cluster of an operator and for one that a command starts."""
    for parent, address in ((head.pid, head.address), (os.getpid(), "local")):
        assert listening_beyond_loopback(parent) == set(), address
    (node,) = ray.nodes()
    assert httpx2.get(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics").status_code == 200
    # Ray takes "127.0.0.1" for the machine's address on the network; commands do not.
    assert head.address.startswith("127.0.0.1:")


def test_the_service_starts_from_kuberays_configuration(head: Head, system_of: SystemOf, tmp_path: Path) -> None:
    """As KubeRay does it: the configuration is sent to the dashboard, and names the application's builder."""
    system = system_of()
    _, secret = create_api_key(system.keys, ["predict"])
    manifest = yaml.safe_load((ROOT / "deploy" / "kuberay" / "rayservice.yaml").read_text())
    config = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    config["http_options"] |= {"host": "127.0.0.1", "port": free_port()}
    config["applications"][0]["args"] |= {"store": system.store.uri, "keys": str(system.keys), "threads": 1}
    refused = httpx2.put(f"{head.dashboard}/api/serve/applications/", json=config)
    assert refused.status_code == 401
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    deployed = head.run("serve", "deploy", "--address", head.dashboard, str(file), RAY_AUTH_MODE="token")
    assert deployed.returncode == 0, deployed.stderr
    url = f"http://127.0.0.1:{config['http_options']['port']}"
    await_ready(url)
    with Client(url) as nobody, pytest.raises(AuthenticationError):
        nobody.predict(picture(1))
    with Client(url, api_key=secret) as client:
        answer = client.predict(picture(1))
    assert isinstance(answer, Prediction)
    assert (answer.commit, answer.route) == (system.newest().number, "specialist")


def await_ready(url: str) -> None:
    until = time.monotonic() + 200
    while True:
        try:
            if httpx2.get(f"{url}/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        assert time.monotonic() < until, "the service is not ready"
        time.sleep(0.2)
