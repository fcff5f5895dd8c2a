"""The cluster file at the top of the project is valid for `ray up`, and names existing things."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.authentication import token_path
from lmeraser.state.keys import default_folder

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "ray_cluster.yaml"
HOME = "/home/ubuntu"


@pytest.fixture
def config() -> dict[str, Any]:
    prepared: dict[str, Any] = prepare_config(yaml.safe_load(FILE.read_text()))
    return prepared


def test_the_cluster_file_is_valid_under_rays_schema(config: dict[str, Any]) -> None:
    validate_config(config)
    nodes = config["available_node_types"]
    assert nodes["gpu"]["min_workers"] >= 1
    assert nodes["gpu"]["min_workers"] <= nodes["gpu"]["max_workers"] <= config["max_workers"]
    # The coordinator and `verify` refuse another processor than that of the workers.
    assert len({node["node_config"]["InstanceType"] for node in nodes.values()}) == 1


def test_only_the_necessary_ports_and_services_are_open(config: dict[str, Any]) -> None:
    starts = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    starts = [command for command in starts if "ray start" in command]
    assert len(starts) == 2
    assert all(command.startswith("ulimit -n 65536; RAY_AUTH_MODE=token ") for command in starts)
    # A fixed port, which can be scraped and firewalled.
    assert all("--metrics-export-port=8080" in command for command in starts)
    assert "--dashboard-host=127.0.0.1" in starts[0]
    # The autoscaler adds no node for work that asks for a label unless the node's type states it.
    assert not any("--labels" in command for command in starts)
    for node in (node["node_config"] for node in config["available_node_types"].values()):
        assert node["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in node["BlockDeviceMappings"])
    assert config["provider"]["cache_stopped_nodes"] is False
    assert not re.search(r"BEGIN|AKIA|[0-9a-f]{64}", FILE.read_text())


def test_all_nodes_have_the_image_that_the_guides_commands_choose(tmp_path: Path) -> None:
    """Until then EC2 refuses to start any: no image has such a name."""
    images = re.findall(r"ImageId: (\S+)", FILE.read_text())
    assert len(images) == 1
    assert not re.fullmatch(r"ami-[0-9a-f]{8,17}", images[0])
    guide = (ROOT / "docs" / "guides" / "aws.md").read_text()
    commands = re.search(r"^(IMAGE=.*?^sed [^\n]*ray_cluster.yaml)$", guide, re.MULTILINE | re.DOTALL)
    assert commands is not None
    # Stands in for the AWS command.
    aws = tmp_path / "aws"
    aws.write_text("#!/bin/sh\necho ami-0123456789abcdef0\n")
    aws.chmod(0o755)
    (tmp_path / "ray_cluster.yaml").write_text(FILE.read_text())
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-ec", commands[1]], cwd=tmp_path, env=environment, check=True)
    chosen = yaml.safe_load((tmp_path / "ray_cluster.yaml").read_text())["available_node_types"]
    assert {node["node_config"]["ImageId"] for node in chosen.values()} == {"ami-0123456789abcdef0"}


def test_setup_waits_for_a_new_nodes_own_updates(config: dict[str, Any]) -> None:
    apt = [command for command in config["setup_commands"] if "apt-get" in command]
    assert ["update" in command for command in apt] == [True, False]
    assert "until sudo apt-get update" in apt[0]
    assert "DPkg::Lock::Timeout=" in apt[1]


def test_mounted_paths_and_commands_exist(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.delenv("LMERASER_KEYS", raising=False)
    monkeypatch.setenv("HOME", HOME)
    mounts = yaml.safe_load(FILE.read_text())["file_mounts"]
    project = next(there for there, here in mounts.items() if here == ".")
    # On a node every command looks in the same default places as on the machine that runs `ray up`.
    for path in (default_folder(), token_path()):
        assert mounts[str(path)] == str(path).replace(HOME, "~")
    commands = [*config["setup_commands"], *config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    for command in commands:
        subprocess.run(["bash", "-n", "-c", command], check=True)
    install = " ".join(command for command in commands if "pip install" in command).replace("~", HOME)
    installed = re.findall(rf"{project}\S*", install)
    assert installed == [f"{project}/requirements.txt", project]
    assert all((ROOT / name.removeprefix(project).lstrip("/")).exists() for name in installed)
    loose = next(command for command in commands if command.startswith("chmod")).replace("~", HOME).split()[3:]
    assert all(any(str(path).startswith(folder) for folder in loose) for path in (default_folder(), token_path()))


def test_the_head_may_start_and_end_nodes_of_this_cluster_only(config: dict[str, Any]) -> None:
    policy = json.loads((ROOT / "deploy" / "aws" / "launch-policy.json").read_text())
    rights = {action: statement for statement in policy["Statement"] for action in statement["Action"]}
    assert "*" not in "".join(rights)
    cluster_name = rights["ec2:TerminateInstances"]["Condition"]["StringEquals"]["aws:ResourceTag/ray-cluster-name"]
    assert cluster_name == config["cluster_name"]
    worker = config["available_node_types"]["gpu"]["node_config"]["IamInstanceProfile"]["Name"]
    assert rights["iam:PassRole"]["Resource"].endswith(f":role/{worker}")
    # The person who runs `ray up` chooses the image.
    assert not any(action.startswith("ssm:") for action in rights)


def test_the_guides_commands_turn_the_documents_into_policies() -> None:
    guide = (ROOT / "docs" / "guides" / "aws.md").read_text()
    make = next(line for line in guide.splitlines() if line.endswith("> store-policy.json"))
    environment = {**os.environ, "BUCKET": "lmeraser-1"}
    command = make.replace("> store-policy.json", "")
    made = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    policy = json.loads(made.stdout)
    prefix = re.search(r"^store: s3://[^/]+/(\w+)", guide, re.MULTILINE)
    assert prefix is not None
    resources = {statement["Resource"] for statement in policy["Statement"]}
    assert resources == {"arn:aws:s3:::lmeraser-1", f"arn:aws:s3:::lmeraser-1/{prefix[1]}/*"}
    trust = re.search(r"cat > trust.json <<'END'\n(.*?)\nEND\n", guide, re.DOTALL)
    assert trust is not None
    assert json.loads(trust[1])["Statement"][0]["Principal"] == {"Service": "ec2.amazonaws.com"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rays_aws_provider_starts_nodes_from_the_cluster_file(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against moto's imitation of EC2 and IAM, over HTTP."""
    import boto3
    from moto.server import ThreadedMotoServer
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.providers import _get_node_provider

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "none")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
        # Ray keeps the private key that it makes there.
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".ssh").mkdir()
        region = config["provider"]["region"]
        iam, ec2 = boto3.client("iam", region), boto3.client("ec2", region)
        for node in config["available_node_types"].values():
            iam.create_instance_profile(InstanceProfileName=node["node_config"]["IamInstanceProfile"]["Name"])
        bootstrapped = bootstrap_aws(config)
        provider = _get_node_provider(bootstrapped["provider"], bootstrapped["cluster_name"], use_cache=False)
        for kind, node in bootstrapped["available_node_types"].items():
            tags = {"ray-node-type": "head" if kind == "head" else "worker", "ray-user-node-type": kind}
            provider.create_node(node["node_config"], tags, 1)
        reservations = ec2.describe_instances()["Reservations"]
        instances = [instance for reservation in reservations for instance in reservation["Instances"]]
        profiles = {instance["IamInstanceProfile"]["Arn"].rpartition("/")[2] for instance in instances}
        groups = [group for group in ec2.describe_security_groups()["SecurityGroups"] if "ray-" in group["GroupName"]]
    finally:
        server.stop()
    assert [instance["InstanceType"] for instance in instances] == ["g6.xlarge"] * 2
    assert profiles == {"lmeraser-head", "lmeraser-worker"}
    assert {instance["MetadataOptions"]["HttpTokens"] for instance in instances} == {"required"}
    # Only SSH is open from outside.
    outside = [rule["FromPort"] for group in groups for rule in group["IpPermissions"] if rule["IpRanges"]]
    assert outside == [22]
