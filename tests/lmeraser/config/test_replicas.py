"""How many replicas: what is refused, and that the message names the key and what is allowed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lmeraser.config import AutoscalingConfig, ServingConfig, load_config
from lmeraser.errors import ConfigError


def loaded(folder: Path, value: dict[str, Any]) -> ServingConfig:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    return load_config(path).serving


def test_bounds_may_be_equal_and_two_of_three_have_defaults(tmp_path: Path) -> None:
    serving = loaded(tmp_path, {"serving": {"autoscaling": {"min_replicas": 3, "max_replicas": 3}}})
    assert serving.autoscaling == AutoscalingConfig(min_replicas=3, max_replicas=3, target_ongoing_requests=16)
    serving = loaded(tmp_path, {"serving": {"autoscaling": {"max_replicas": 3}}})
    assert serving.autoscaling == AutoscalingConfig(min_replicas=1, max_replicas=3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            {"serving": {"replicas": 2, "autoscaling": {"max_replicas": 4}}},
            r"^config\.yaml: serving: replicas is 2 and autoscaling is set: write autoscaling\.min_replicas",
        ),
        (
            {"serving": {"autoscaling": {"min_replicas": 3, "max_replicas": 2}}},
            r"^config\.yaml: serving\.autoscaling: max_replicas is 2 and min_replicas is 3: allowed is",
        ),
        (
            {"serving": {"autoscaling": {"max_replicas": 0}}},
            r"autoscaling\.max_replicas: .*equal to 1 \(got 0\)",
        ),
        ({"serving": {"autoscaling": {"min_replicas": 2}}}, r"serving\.autoscaling\.max_replicas: .*required"),
        (
            {"serving": {"autoscaling": {"max_replicas": 2, "target_ongoing_requests": 0}}},
            r"serving\.autoscaling\.target_ongoing_requests: .*greater than 0 \(got 0\)",
        ),
    ],
)
def test_a_refusal_names_the_key_and_what_is_allowed(tmp_path: Path, value: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, value)
    assert re.search(message, str(caught.value).removeprefix(f"{tmp_path}/"))
