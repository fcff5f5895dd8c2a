"""An owner's resources: a share of a GPU by the memory of a tuning, on the GPU that Ray assigns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_system import System, samples
from stored_rows import rows_of

from actors.remote.owner_resources import gpu_share, owner_placement, tuning_bytes
from actors.remote.placement import OWNERS_GPU_SHARE, Placement
from lmeraser.config import OwnersConfig
from lmeraser.state.log import Log
from lmeraser.state.manifest import load_part

SystemOf = Callable[..., System]
SUPPORT = Path(__file__).parent.parent.parent / "support"
SCRIPT = SUPPORT / "logical_gpus.py"
EMPTY_HEAD = SUPPORT / "empty_head.py"
GIB = 2**30
CONTEXT = 600_000_000  # before any tensor


@pytest.mark.parametrize("owners", [1, 2, 3, 5, 7, 30])
def test_as_many_owners_share_a_gpu_as_its_memory_allows(owners: int) -> None:
    needed = int(OWNERS_GPU_SHARE * 24 * GIB / owners)
    share = gpu_share(needed, 24 * GIB)
    assert Placement(0.001, share, "", 16, 60.0).owners_per_gpu == owners
    assert share * owners <= OWNERS_GPU_SHARE
    assert share * 24 * GIB >= needed * 0.99


def test_an_owner_gets_a_whole_gpu_if_a_size_is_unknown() -> None:
    for unknown in (gpu_share(None, GIB), gpu_share(GIB, None), gpu_share(25 * GIB, 24 * GIB)):
        assert Placement(0.001, unknown, "", 16, 60.0).owners_per_gpu == 1


def test_a_store_on_the_cpu_requests_no_gpu_unless_configured(system_of: SystemOf) -> None:
    system = system_of()
    plain = owner_placement(OwnersConfig(), system.store, system.manifest)
    configured = owner_placement(OwnersConfig(gpus_per_owner=0.25), system.store, system.manifest)
    assert (plain.num_gpus, configured.num_gpus) == (0.0, 0.25)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["token", "pad"])
def test_the_estimate_covers_the_tensors_that_a_tuning_keeps(system_of: SystemOf, variant: str) -> None:
    system = system_of(variant)
    pipeline = system.pipeline()
    kept_bytes: dict[int, int] = {}
    largest = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        kept_bytes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        largest = max(largest, sum(kept_bytes.values()))
        return tensor

    def stepped(*_: int) -> None:
        kept_bytes.clear()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        pipeline.specialist(pipeline.rows(samples(0, 20)), stepped)
    weights = load_part(system.store, system.manifest, "backbone")
    parameters = sum(array.nbytes for array in weights.values())
    estimated = tuning_bytes(pipeline.config, weights)
    assert estimated is not None
    kept_by_estimate = estimated - parameters - CONTEXT
    assert largest <= kept_by_estimate + parameters
    assert kept_by_estimate <= 4 * largest


@pytest.mark.slow
def test_a_convolutional_backbone_is_not_estimated(system_of: SystemOf) -> None:
    system = system_of("conv")
    assert tuning_bytes(system.manifest.config, load_part(system.store, system.manifest, "backbone")) is None


@pytest.mark.ray
def test_only_an_owner_that_tunes_holds_a_gpu_and_uses_the_one_that_ray_gave_it(system_of: SystemOf) -> None:
    system = system_of()
    tables = [rows_of(system.store, entry) for entry in system.newest().clusters]
    # One tuning more than there are GPUs.
    rows = [table.sample_ids[0] for table in tables if len(table) > 8][:3]
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), system.store.uri, str(system.keys), *rows],
        env={**os.environ, "RAY_ADDRESS": "local"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    report: dict[str, Any] = json.loads(ran.stdout)
    assert {(cluster["owner"], cluster["device"]) for cluster in report["waiting"]} == {("resident", "CPU")}
    assert report["free"] == 2.0
    # No attempt was lost to an owner that was ended for one with a GPU.
    assert not any(record.kind == "attempt" for record in Log(system.store).advance())
    resident = {cluster["key"]: cluster["device"] for cluster in report["tuned"] if cluster["owner"] == "resident"}
    on_gpu = Counter(device for device in resident.values() if device != "CPU")
    # Two owners of 0.35 fit next to the other processes on a GPU.
    assert on_gpu.total() == report["tunings"] == 3
    assert set(on_gpu) <= {f"GPU {number}" for number in range(2)}
    assert max(on_gpu.values()) == 2
    assert {cluster["node_id"] for cluster in report["tuned"] if cluster["owner"] == "resident"} == {report["node_id"]}
    # Each process sees the GPU that the list names.
    for key, device in resident.items():
        assert device == "CPU" or report["visible GPUs"][key] == device.removeprefix("GPU ")
    assert system.newest().root == system.fresh_root([row for row in samples(0, 90) if row.sample_id not in rows])


@pytest.mark.ray
def test_no_coordinator_or_owner_is_placed_on_a_node_without_room(system_of: SystemOf) -> None:
    system = system_of("minute", 24)
    ran = subprocess.run(
        [sys.executable, str(EMPTY_HEAD), system.store.uri, str(system.keys)],
        env={**os.environ, "RAY_ADDRESS": "local"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    report: dict[str, Any] = json.loads(ran.stdout)
    assert set(report["node_ids"]) == {report["worker"]}
