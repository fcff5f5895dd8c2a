"""Every computed array of fixed systems is, bit for bit, the one that was recorded on earlier code.

A change that only moves or renames must pass without a new recording. Digests are over type, shape and bytes of
arrays, never over names of fields, keys or configuration, so those may change. The names in the files beside this one
are the files' own: leave them as they are, whatever the code calls the things.

`LMERASER_WRITE_GOLDEN=1 .venv/bin/pytest tests/golden` records anew: on code whose results are right, in a commit that
says why they changed. Bits depend on processor and libraries, so each file holds the fingerprint it was recorded under.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_system import VARIANTS, System

from lmeraser.config import BackboneConfig, load_config
from lmeraser.data import open_public, open_source
from lmeraser.learning.backbone import create_model
from lmeraser.learning.heads import Head, Statistics
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.fingerprint import accelerator_name, fingerprint
from lmeraser.state.keys import init_keys
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.public_artifacts import create_store
from lmeraser.state.public_fit import build_public
from lmeraser.state.stored_objects import read_cluster, read_heads_state
from lmeraser.store import LocalStore

WRITE = "LMERASER_WRITE_GOLDEN"
ROWS = {variant: 60 if variant == "minute" else 90 for variant in VARIANTS}
# Of "minute" with 60 rows, this deletion moves clusters, too.
DELETED = ("s7", "s30")
# So many digits of SHA-256 show any change that nobody made on purpose to pass, and keep the files small.
DIGITS = 12
Digests = dict[str, Any]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_small_system_has_the_recorded_arrays(variant: str, system_of: Callable[..., System]) -> None:
    here = _numerics(variant, VARIANTS[variant][0])
    system = system_of(variant, ROWS[variant])
    _compare(variant, here, _recorded_of(system, DELETED))


@pytest.mark.slow
def test_the_demo_has_the_recorded_arrays(tmp_path: Path) -> None:
    # Importing it imports Ray, which is not started.
    from cluster.demo import CONFIG

    config = load_config(CONFIG)
    here = _numerics("demo", config.backbone)
    public, private = open_public(config.public), open_source(config.private)
    state_config = config.state(private.labels)
    # The demo trains its weights by Ray Train, in two processes and for minutes. Here they are those of a new model
    # under a fixed seed: all that follows is the same code.
    torch.manual_seed(config.seed)
    weights = create_model(config.backbone).state_dict()
    store = LocalStore(tmp_path / "store")
    create_store(store, state_config, build_public(state_config, weights, public.samples(public.labels)))
    init_keys(tmp_path / "keys")
    system = System(store, tmp_path / "keys")
    rows = list(private.samples(private.labels))
    system.ingest(rows)
    _compare("demo", here, _recorded_of(system, (rows[0].sample_id, rows[700].sample_id)))


def _recorded_of(system: System, deleted: tuple[str, ...]) -> Digests:
    """The digests of a system's arrays, before and after these samples are deleted from it."""
    public = _public(system.pipeline())
    before = _state(system)
    system.delete(*deleted)
    after = _state(system)
    assert before != after, "the deletion changed nothing"
    return {"public": public, "before the deletion": before, "after the deletion": after}


def _public(pipeline: Pipeline) -> Digests:
    digests = {
        "backbone weights": _digest(
            *(tensor.cpu().numpy() for tensor in pipeline.backbone.model.state_dict().values())
        ),
        "feature batch": _digest(np.int64(pipeline.feature_batch)),
        "anchors": _digest(pipeline.anchor_index.anchors_AR),
        "dendrogram": _digest(pipeline.dendrogram.children_M2),
        "feature map mean": _digest(pipeline.feature_map.mean_F),
        "feature map projection": _digest(pipeline.feature_map.projection_FH),
    }
    if pipeline.public_prompt is not None:
        digests["public prompt"] = _digest(pipeline.public_prompt.cpu().numpy())
    return digests


def _state(system: System) -> Digests:
    """The digests of all objects that the newest commit names."""
    commit = system.newest()
    heads = read_heads_state(system.store, system.hash_key, commit)
    return {
        "clusters": {entry.key: _cluster(system, entry) for entry in commit.clusters},
        "statistics without own prompt": _statistics(heads.sums.shared),
        "statistics with own prompt": _statistics(heads.sums.pooled),
        "head without own prompt": _head(heads.solved.shared),
        "head with own prompt": _head(heads.solved.pooled),
    }


def _cluster(system: System, entry: ClusterEntry) -> Digests:
    rows, specialist = read_cluster(system.store, system.hash_key, entry)
    digests = {
        "sample ids": _digest(np.array(rows.sample_ids)),
        "labels": _digest(rows.labels_N),
        "anchors": _digest(rows.anchors_N),
        "features": _digest(rows.features_NH),
    }
    if specialist is not None:
        digests["prompt"] = _digest(specialist.prompt)
        digests["prompted features"] = _digest(specialist.features_NH)
    return digests


def _statistics(statistics: Statistics) -> Digests:
    return {
        "gram": _digest(statistics.gram_HH),
        "cross": _digest(statistics.cross_HC),
        "sums": _digest(statistics.sums_H),
        "counts": _digest(statistics.counts_C),
    }


def _head(head: Head) -> Digests:
    return {
        "weight": _digest(head.weight_HC),
        "bias": _digest(head.bias_C),
        "penalty": _digest(np.float64(head.penalty)),
        "unexplained": _digest(np.float64(head.unexplained)),
    }


def _digest(*arrays: np.ndarray | np.generic) -> str:
    """The first digits of SHA-256 over dtype, shape and little-endian bytes of each array."""
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(json.dumps([array.dtype.str, list(array.shape)]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:DIGITS]


def _file(name: str) -> Path:
    return Path(__file__).parent / f"{name}.json"


def _numerics(name: str, backbone: BackboneConfig) -> dict[str, str]:
    """The fingerprint here; skips the test where what was recorded has another one."""
    # The batch found by the self-check is among the arrays, so that another one fails instead of skipping.
    here = fingerprint(0, accelerator_name(backbone))
    if WRITE in os.environ:
        return here
    recorded: dict[str, str] = json.loads(_file(name).read_text())["fingerprint"]
    # Their names may change as well, so values alone are compared.
    if sorted(recorded.values()) != sorted(here.values()):
        there = sorted(set(recorded.values()) - set(here.values()))
        found = sorted(set(here.values()) - set(recorded.values()))
        pytest.skip(
            f"{name}.json was recorded under other numerics ({there} there, {found} here). To compare here, check out "
            f"the code before the change, run `{WRITE}=1 .venv/bin/pytest tests/golden` on it, and copy its "
            "tests/golden/*.json over those of the changed code"
        )
    return here


def _compare(name: str, here: Mapping[str, str], found: Digests) -> None:
    """Compare with the file, and name each array that differs; write the file first where that is asked for."""
    if WRITE in os.environ:
        _file(name).write_text(json.dumps({"fingerprint": here, "digests": found}, indent=1) + "\n")
    recorded = dict(_flat(json.loads(_file(name).read_text())["digests"], name))
    computed = dict(_flat(found, name))
    differing = [
        f"{array}: {recorded.get(array, 'nothing')} was recorded, {computed.get(array, 'nothing')} is computed"
        for array in sorted(recorded.keys() | computed.keys())
        if recorded.get(array) != computed.get(array)
    ]
    if differing:
        told = f"{len(differing)} arrays differ from {name}.json, which has {len(recorded)}:"
        pytest.fail("\n".join([told, *differing]), pytrace=False)


def _flat(digests: Digests, prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in digests.items():
        where = f"{prefix} / {name}"
        if isinstance(value, dict):
            yield from _flat(value, where)
        else:
            yield where, value
