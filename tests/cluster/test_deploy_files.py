"""The files under deploy/ are valid for their programs, contain no secret, and name existing things."""

from __future__ import annotations

import fnmatch
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema
from small_system import System

from lmeraser.config import ServingConfig
from lmeraser.state.keys import init_keys, load_hash_key, load_signing_key
from serving.problems import BODY_TIMEOUT_S

ROOT = Path(__file__).parent.parent.parent
KUBERAY = ROOT / "deploy" / "kuberay"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
SystemOf = Callable[..., System]


def documents() -> list[dict[str, Any]]:
    return [document for file in sorted(KUBERAY.glob("*.yaml")) for document in yaml.safe_load_all(file.read_text())]


def of_kind(kind: str) -> dict[str, Any]:
    document: dict[str, Any] = next(each for each in documents() if each["kind"] == kind)
    return document


def clusters() -> list[dict[str, Any]]:
    return [of_kind("RayCluster")["spec"], of_kind("RayService")["spec"]["rayClusterConfig"]]


def pods() -> list[dict[str, Any]]:
    specs = [of_kind("StatefulSet")["spec"]["template"]["spec"]]
    for cluster in clusters():
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        specs += [group["template"]["spec"] for group in groups]
    return specs


def containers() -> Iterator[dict[str, Any]]:
    for pod in pods():
        yield from pod.get("initContainers", [])
        yield from pod["containers"]


@pytest.mark.parametrize("kind", ["RayCluster", "RayService"])
def test_manifests_are_valid_under_kuberays_schema(kind: str) -> None:
    folder = os.environ.get("KUBERAY_CRDS")
    if not folder:
        pytest.skip("KUBERAY_CRDS names no folder; KubeRay's source has one, ray-operator/config/crd/bases")
    definition = yaml.safe_load((Path(folder) / f"ray.io_{kind.lower()}s.yaml").read_text())
    schema = next(each for each in definition["spec"]["versions"] if each["name"] == "v1")["schema"]["openAPIV3Schema"]
    jsonschema.Draft202012Validator(_strict(schema)).validate(of_kind(kind))


def _strict(schema: Any) -> Any:
    """As the API server reads it: unknown fields are refused, int-or-string accepts both."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(value) for name, value in schema.items()}
    named = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    # The definition does not describe metadata; the API server knows it.
    if named and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        strict.pop("type", None)
    return strict


def test_an_upgrade_keeps_the_service_and_no_job_has_to_start_a_coordinator() -> None:
    assert of_kind("RayService")["spec"]["upgradeStrategy"] == {"type": "NewCluster"}
    kinds = {"Namespace", "NetworkPolicy", "RayCluster", "RayService", "Service", "ServiceAccount", "StatefulSet"}
    assert {document["kind"] for document in documents()} == kinds


def test_every_cluster_requires_a_token_and_this_version_of_ray() -> None:
    for cluster in clusters():
        assert cluster["authOptions"] == {"mode": "token", "secretName": "lmeraser-ray-token"}
        assert cluster["rayVersion"] == version("ray")
        head, worker = cluster["headGroupSpec"], cluster["workerGroupSpecs"][0]
        assert head["rayStartParams"]["num-cpus"] == "0"
        assert "nvidia.com/gpu" not in head["template"]["spec"]["containers"][0]["resources"]["limits"]
        assert worker["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert 1 <= worker["minReplicas"] <= worker["replicas"] <= worker["maxReplicas"]
        # The coordinator, on whichever pod, refuses another processor than that of the workers.
        selectors = [group["template"]["spec"]["nodeSelector"] for group in (head, worker)]
        assert selectors[0] == selectors[1]


def test_the_heads_state_outlives_its_pod() -> None:
    redis = of_kind("StatefulSet")
    service = next(each for each in documents() if each["kind"] == "Service")
    labels = redis["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    # The same network policy applies to it as to Ray's pods.
    assert of_kind("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    pod = redis["spec"]["template"]["spec"]
    (secret,) = [volume["secret"]["secretName"] for volume in pod["volumes"]]
    assert f"cat {pod['containers'][0]['volumeMounts'][0]['mountPath']}/password" in pod["containers"][0]["args"][0]
    guide = (ROOT / "docs" / "guides" / "kubernetes.md").read_text()
    assert f"create secret generic {secret} --from-file=password=" in guide
    for cluster in clusters():
        options = cluster["gcsFaultToleranceOptions"]
        port = service["spec"]["ports"][0]["port"]
        assert options["redisAddress"] == f"{service['metadata']['name']}:{port}"
        assert options["redisPassword"] == {"valueFrom": {"secretKeyRef": {"name": secret, "key": "password"}}}


def test_every_container_runs_without_root_and_within_limits() -> None:
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE.read_text(), re.MULTILINE)
    assert user is not None
    for pod in pods():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True
        assert (str(security["runAsUser"]), str(security["runAsGroup"])) == user.groups()
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]


def test_secrets_are_mounted_and_not_in_any_file() -> None:
    for pod in pods():
        mounted = {volume["name"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
        assert mounted
        assert all(secret["defaultMode"] == 0o400 for secret in mounted.values())
    values = {entry["name"]: entry.get("value") for container in containers() for entry in container.get("env", [])}
    assert set(values) == {"SECRET", "KEYS", "LMERASER_KEYS"}
    assert not any(each["kind"] == "Secret" for each in documents())
    for file in (*KUBERAY.glob("*.yaml"), DOCKERFILE):
        assert not re.search(r"BEGIN|AKIA|lmeraser_[\w-]{20}|[0-9a-f]{64}", file.read_text())


def test_copied_keys_are_readable_only_by_their_user_and_follow_the_secret(tmp_path: Path) -> None:
    """Runs the unchanged command of the container that copies them."""
    scripts = {tuple(pod["initContainers"][0]["args"]) for pod in pods() if "initContainers" in pod}
    assert len(scripts) == 1
    init_keys(tmp_path / "made")
    (tmp_path / "made" / "api-keys.json").write_text("[]")
    secret, keys = tmp_path / "secret", tmp_path / "keys"
    keys.mkdir()
    shutil.copytree(tmp_path / "made", secret)
    for file in secret.iterdir():
        # As a volume of a pod with fsGroup has them, which the keys' reader refuses.
        file.chmod(0o440)
    process = subprocess.Popen(
        ["sh", "-c", scripts.pop()[0].replace("sleep 5", "sleep 0.1")],
        env={**os.environ, "SECRET": str(secret), "KEYS": str(keys)},
    )
    try:
        await_(lambda: (keys / "signing-key.pub.pem").exists())
        assert {file.name: file.stat().st_mode & 0o777 for file in keys.iterdir()} == {
            file.name: 0o400 for file in secret.iterdir()
        }
        assert load_hash_key(keys) == load_hash_key(tmp_path / "made")
        load_signing_key(keys)
        revoked = tmp_path / "revoked"
        revoked.write_text("[ ]")
        revoked.rename(secret / "api-keys.json")
        await_(lambda: (keys / "api-keys.json").read_text() == "[ ]")
    finally:
        process.kill()
        process.wait()


def await_(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_serve_accepts_its_configuration_and_the_app_its_arguments(system_of: SystemOf) -> None:
    schema = ServeDeploySchema.model_validate(yaml.safe_load(of_kind("RayService")["spec"]["serveConfigV2"]))
    assert (schema.http_options.host, schema.http_options.port) == ("0.0.0.0", 8000)
    assert schema.http_options.request_timeout_s == 2 * BODY_TIMEOUT_S
    (application,) = schema.applications
    assert application.import_path is not None
    module, _, name = application.import_path.partition(":")
    store = system_of(rows=0).store.uri
    assert getattr(importlib.import_module(module), name)({**application.args, "store": store})
    assert set(application.args) - {"store", "keys", "owners"} <= set(ServingConfig.__dataclass_fields__)
    assert application.args["keys"] == keys_folder()


def keys_folder() -> str:
    folders = {
        entry["value"] for each in containers() for entry in each.get("env", []) if entry["name"] == "LMERASER_KEYS"
    }
    assert len(folders) == 1
    folder = folders.pop()
    assert f"LMERASER_KEYS={folder}" in DOCKERFILE.read_text()
    return str(folder)


def test_only_http_is_reachable_from_outside() -> None:
    policy = of_kind("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    own = policy["podSelector"]["matchLabels"]
    assert policy["ingress"][0] == {"from": [{"podSelector": {"matchLabels": own}}]}
    opened = {
        next(iter(rule["from"][0]["namespaceSelector"]["matchLabels"].values())): [
            port["port"] for port in rule["ports"]
        ]
        for rule in policy["ingress"][1:]
    }
    assert opened == {"kuberay-system": [8265, 8000], "true": [8000], "monitoring": [8080]}
    for cluster in clusters():
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            assert group["template"]["metadata"]["labels"] == own


def test_the_image_contains_only_this_project() -> None:
    text = DOCKERFILE.read_text()
    copied = [
        source for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for source in line.split()[:-1]
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= set(copied)
    assert all((ROOT / source).exists() for source in copied)
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert allowed == set(copied)
    assert "--require-hashes -r requirements.txt" in text
    command = json.loads(re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)[-1])
    assert command[:2] == ["lmeraser", "serve"]
    # KubeRay's probes call it.
    assert re.search(r"install .*wget", text)
    assert not any(fnmatch.fnmatch(source, "*key*") for source in copied)


def test_hadolint_finds_nothing_in_the_image() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    if not linter.exists():
        pytest.skip("hadolint is not installed; it comes with the extra [dev]")
    linted = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")
