"""Nodes that are labelled with a store's fingerprint compute its state; where none is, any node does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import ray

from actors.remote.nodes import Nodes
from actors.remote.placement import GPU_NUMERICS_LABEL, NUMERICS_LABEL, Placement, node_options, numerics_selector
from lmeraser.state.fingerprint import fingerprint, label_of

CPU, GPU = fingerprint(64), fingerprint(64, "H100")


def node(name: str, labels: Mapping[str, str], *, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Labels": dict(labels), "Resources": {"CPU": 2.0}}


def with_nodes(monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, Any]) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", lambda: list(nodes))


def test_work_goes_to_nodes_with_the_label_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    label = {NUMERICS_LABEL: label_of(CPU)}
    with_nodes(monkeypatch, node("old", {NUMERICS_LABEL: "other"}), node("same", label), node("plain", {}))
    assert numerics_selector(CPU) == label
    where = Placement(0.001, 0.0, "", 16, 60.0, numerics_selector(CPU))
    assert node_options(where) == {"label_selector": label}
    assert Nodes(where).tunings() == 2


def test_any_node_does_where_none_has_the_label(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = node("ended", {NUMERICS_LABEL: label_of(CPU)}, alive=False)
    with_nodes(monkeypatch, node("old", {NUMERICS_LABEL: "other"}), ended)
    assert numerics_selector(CPU) == {}
    assert node_options(Placement(0.001, 0.0, "", 16, 60.0)) == {}


def test_a_store_on_gpus_looks_for_the_label_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {NUMERICS_LABEL: label_of(CPU), GPU_NUMERICS_LABEL: label_of(GPU)}
    with_nodes(monkeypatch, node("gpu", labels))
    assert numerics_selector(GPU) == {GPU_NUMERICS_LABEL: label_of(GPU)}
    where = Placement(0.001, 0.1, "H100", 16, 60.0, numerics_selector(GPU))
    assert where.labels == {"ray.io/accelerator-type": "H100", GPU_NUMERICS_LABEL: label_of(GPU)}


def test_batches_of_another_size_do_not_change_the_label() -> None:
    assert label_of(CPU) == label_of(fingerprint(1)) != label_of(GPU)
