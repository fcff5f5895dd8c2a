"""Rebuilding a store under another configuration, against a fresh store of that configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rebuilding import Rebuild, fresh_root
from small_system import System, finish, samples

from lmeraser.config import StateConfig
from lmeraser.proof.verify import verify
from lmeraser.state.layout import SWITCHING

ROWS = samples(0, 60)
Changed = Callable[[StateConfig], StateConfig]

CHANGES: dict[str, Changed] = {
    "a label": lambda config: replace(config, labels=(*config.labels, "violet")),
    "the order of the labels": lambda config: replace(config, labels=config.labels[::-1]),
    "larger clusters": lambda config: replace(config, partition=replace(config.partition, max_cluster_rows=12)),
    "the coreset": lambda config: replace(config, tuning=replace(config.tuning, coreset_rows=4)),
    "more anchors": lambda config: replace(config, partition=replace(config.partition, anchors=8)),
    "the routing block": lambda config: replace(config, partition=replace(config.partition, routing_block=2)),
    "the seed": lambda config: replace(config, seed=5),
    "the size of images": lambda config: replace(config, backbone=replace(config.backbone, image_px=32)),
    "fewer features": lambda config: replace(config, heads=replace(config.heads, head_dim=8)),
    "the prompt": lambda config: replace(config, prompt=replace(config.prompt, tokens=3)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_state_after_a_rebuild_is_that_of_a_fresh_store(
    change: str, system_of: Callable[..., System], tmp_path: Path
) -> None:
    system = system_of("minute", 60)
    before = system.manifest.config
    config = CHANGES[change](before)
    rows = [replace(row, label=config.labels.index(before.labels[row.label])) for row in ROWS]
    coordinator = system.coordinator()
    rebuild = Rebuild(system, config)
    rebuild.begin(coordinator)
    finish(rebuild.finish(coordinator))
    newest = system.newest()
    assert newest.root == fresh_root(system, config, rows, tmp_path / "fresh")
    assert system.manifest.config == config
    # Nothing of the old generation is left.
    assert not system.store.exists(SWITCHING)
    kept = {name for name in system.store.names() if not name.startswith(("log/", "checkpoints/", "receipts/"))}
    folder = f"generations/{rebuild.generation}/"
    expected = newest.objects() | set(system.manifest.public.values())
    assert kept == expected | {"store.json", "public/signing-key.pem", f"{folder}store.json"}
    assert verify(system.store, system.hash_key, processes=1).equal
