"""Dashboard, alerts and guide name metrics that the code reports, with labels that these have, and leave out none."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
# How Prometheus names the series of each kind.
SERIES = {"Counter": ("_total",), "Gauge": ("",), "Histogram": ("_bucket", "_count", "_sum")}


def declared() -> Iterator[tuple[str, str, set[str]]]:
    """Name, kind and labels of every metric that the code makes."""
    for room in ("actors", "serving", "cluster"):
        for file in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SERIES):
                    continue
                # A Counter of collections has no name.
                if node.args and isinstance(node.args[0], ast.Constant):
                    keywords = {each.arg: each.value for each in node.keywords}
                    labels = ast.literal_eval(keywords["tag_keys"]) if "tag_keys" in keywords else ()
                    yield ast.literal_eval(node.args[0]), node.func.id, set(labels)


LABELS = {f"ray_{name}{end}": labels for name, kind, labels in declared() for end in SERIES[kind]}
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana-dashboard.json").read_text())
(GROUP,) = yaml.safe_load((ROOT / "deploy" / "prometheus-alerts.yaml").read_text())["groups"]
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
QUERIES += [rule["expr"] for rule in GROUP["rules"]]
GUIDE = (ROOT / "docs" / "guides" / "operator.md").read_text()


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_a_metric_that_is_reported_and_labels_that_it_has(query: str) -> None:
    names = re.findall(r"ray_\w+", query)
    assert names and set(names) <= LABELS.keys()
    known = set().union(*(LABELS[name] for name in names))
    used = {label for block in re.findall(r"\{(.*?)\}", query) for label in re.findall(r"(\w+)\s*[=!]~?", block)}
    grouped = {label for block in re.findall(r"by \((.*?)\)", query) for label in re.split(r",\s*", block)}
    assert used <= known
    assert grouped - {"le"} <= known
    # A quantile needs the buckets.
    assert ("histogram_quantile" in query) == any(name.endswith("_bucket") for name in names)


def test_the_dashboard_shows_every_metric() -> None:
    shown = " ".join(QUERIES[: -len(GROUP["rules"])])
    for name, kind, _ in declared():
        assert any(re.search(rf"\bray_{name}{end}\b", shown) for end in SERIES[kind]), name


def test_panels_neither_overlap_nor_share_a_number() -> None:
    squares = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in (panel["gridPos"],)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(squares)) == len(squares)
    assert all(0 <= x < 24 for x, _ in squares)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_guide_says_what_to_do_about_each_alert_and_lists_every_metric() -> None:
    alerts = [rule["alert"] for rule in GROUP["rules"]]
    assert sorted(re.findall(r"^\| `(LMEraser\w+)` \|", GUIDE, re.MULTILINE)) == sorted(alerts)
    table = GUIDE.partition("| metric (`ray_lmeraser_…`)")[2].partition("\n\n")[0]
    listed = {
        f"ray_lmeraser_{name}" for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    ends = {"Counter": "_total", "Gauge": "", "Histogram": ""}
    assert {f"ray_{name}{ends[kind]}" for name, kind, _ in declared()} <= listed
