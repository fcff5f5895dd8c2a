"""The Compose file is valid, pins its images and mounts files that exist; its first commands work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from benchmarks.lib.s3_server import s3_server
from lmeraser.config.file import load_config
from lmeraser.state.keys import load_hash_key, load_signing_key

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
GUIDE = ROOT / "docs" / "guides" / "compose.md"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def mounts(service: dict[str, Any]) -> list[tuple[str, str]]:
    """What is mounted, and where; a variable by its default, or by its name where it has none."""
    volumes = [re.sub(r"\$\{(\w+):\?[^}]*\}", r"\1", volume) for volume in service.get("volumes", [])]
    volumes = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume) for volume in volumes]
    return [(source, target) for source, target, *_ in (volume.split(":") for volume in volumes)]


def test_the_file_is_valid_under_the_compose_specification() -> None:
    schema = json.loads((Path(__file__).parent / "compose-spec" / "compose-spec.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(COMPOSE)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**COMPOSE, "services": {"service": {"imagee": "lmeraser"}}})


def test_images_are_pinned_and_the_projects_own_has_its_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for service in SERVICES.values():
        name, _, tag = service["image"].rpartition(":")
        assert name and re.search(r"\d", tag), service["image"]
        if name == "lmeraser":
            assert tag == version
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_mounted_files_exist_and_volumes_and_secrets_are_declared() -> None:
    declared = {name: secret["file"] for name, secret in COMPOSE["secrets"].items()}
    assert all(file.startswith("./secrets/") for file in declared.values())
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    used = set()
    for service in SERVICES.values():
        used |= set(service.get("secrets", []))
        for source, _ in mounts(service):
            if source.startswith("./") and source != "./secrets/keys":
                assert (DEPLOY / source).is_file(), source
            elif not source.startswith("./"):
                assert source in {*COMPOSE["volumes"], "LMERASER_ROWS"}
    assert used == set(declared)


def test_ports_are_on_loopback_and_whatever_runs_on_has_a_check() -> None:
    published = {port for service in SERVICES.values() for port in service.get("ports", [])}
    assert published == {"127.0.0.1:8000:8000", "127.0.0.1:3000:3000", "127.0.0.1:9090:9090"}
    for name, service in SERVICES.items():
        if name != "make-bucket":
            assert service["healthcheck"]["test"][0] == "CMD"
            assert service["restart"] == "unless-stopped"
        for needed, condition in service.get("depends_on", {}).items():
            assert condition["condition"] == "service_healthy" if needed != "make-bucket" else True
    assert COMPOSE["networks"]["store"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "store" in service["networks"]} == {
        "bucket-server",
        "make-bucket",
        "service",
    }


def test_no_secret_is_a_variable_or_part_of_a_command() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|SECRET|TOKEN|KEY", name) or name.endswith("_FILE"), name
            assert not name.endswith("_FILE") or value.startswith("/run/secrets/")


def test_prometheus_asks_the_port_that_ray_exports_and_grafana_finds_the_dashboard() -> None:
    (job,) = yaml.safe_load((DEPLOY / "compose" / "prometheus.yaml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    host, _, port = target.partition(":")
    assert f"--metrics-export-port={port}" in SERVICES[host]["command"][-1]
    assert set(SERVICES[host]["networks"]) & set(SERVICES["prometheus"]["networks"])
    (source,) = yaml.safe_load((DEPLOY / "compose" / "grafana-sources.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((DEPLOY / "compose" / "grafana-dashboards.yaml").read_text())["providers"]
    folder = Path(provider["options"]["path"])
    dashboards = [target for source, target in mounts(SERVICES["grafana"]) if Path(target).parent == folder]
    assert dashboards == [str(folder / "lmeraser.json")]


def test_the_first_configuration_is_accepted_and_names_the_bucket() -> None:
    config = load_config(DEPLOY / "compose" / "config.yaml")
    assert (
        config.s3_endpoint == SERVICES["service"]["environment"]["AWS_ENDPOINT_URL_S3"] == "http://bucket-server:9000"
    )
    assert f'Bucket="{config.store.removeprefix("s3://").partition("/")[0]}"' in SERVICES["make-bucket"]["command"][-1]
    assert ("LMERASER_ROWS", "/rows") in mounts(SERVICES["service"])


@pytest.mark.slow
def test_the_guides_secrets_are_those_that_are_mounted_and_make_the_bucket(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    (block,) = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", block]
    subprocess.run(command, cwd=tmp_path, env={"PATH": path, "HOME": str(tmp_path)}, check=True, capture_output=True)
    for secret in COMPOSE["secrets"].values():
        file = tmp_path / "deploy" / secret["file"]
        assert file.read_text() and file.stat().st_mode & 0o777 == 0o600
    load_hash_key(tmp_path / "deploy" / "secrets" / "keys")
    load_signing_key(tmp_path / "deploy" / "secrets" / "keys")
    credentials = tmp_path / "deploy" / COMPOSE["secrets"]["bucket-credentials"]["file"]
    service = SERVICES["make-bucket"]
    with s3_server() as server:
        environment = {
            **service["environment"],
            "PATH": path,
            "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
            "AWS_ENDPOINT_URL_S3": server.endpoint,
        }
        # At every `up`.
        for _ in range(2):
            subprocess.run([sys.executable, *service["command"][1:]], env=environment, check=True)
        assert [bucket["Name"] for bucket in server.client().list_buckets()["Buckets"]] == ["lmeraser"]
