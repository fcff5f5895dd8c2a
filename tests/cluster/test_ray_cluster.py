"""The cluster file at the top of the project is one that `ray up` takes."""

from __future__ import annotations

from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

FILE = Path(__file__).parent.parent.parent / "ray_cluster.yaml"


def test_ray_takes_the_cluster_file() -> None:
    config = prepare_config(yaml.safe_load(FILE.read_text()))
    validate_config(config)
    # A store on a local disk is seen by one node only.
    assert config["max_workers"] == 0
    assert config["head_node_type"] in config["available_node_types"]
    assert any("constraints.txt" in command for command in config["setup_commands"])
    assert all("--dashboard-host=127.0.0.1" in command for command in config["head_start_ray_commands"][1:])
