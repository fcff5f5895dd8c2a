"""Rebuilding a live store under another configuration or other numerics (design 7)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch

from actors.coordinator_status import RebuildStatus
from actors.refill import live_labels
from actors.remote.placement import StoreRef, numerics_selector
from cluster.build import FittedArtifacts, fit, trained_weights
from cluster.filling import POLL_S, Fill, show
from cluster.public_rows import State
from lmeraser.config import Config, StateConfig
from lmeraser.data import SourceReport
from lmeraser.errors import ConfigError, NotReadyError, StoreFormatError
from lmeraser.progress import Progress
from lmeraser.state.draft_rows import DraftRows, check_labels
from lmeraser.state.fingerprint import fingerprint_here
from lmeraser.state.keys import load_hash_key
from lmeraser.state.layout import MANIFEST, RENAMED
from lmeraser.state.manifest import Manifest, draft_of, load_manifest, load_part
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import open_routed
from lmeraser.state.provenance import same_public_artifacts
from lmeraser.state.public_artifacts import create_draft, load_public
from lmeraser.state.public_fit import backbone_digest
from lmeraser.store import Store, open_store


@dataclass(frozen=True)
class RebuildSummary:
    """The result of a rebuild.

    Attributes:
        generation: what was made.
        resumed: whether an earlier command had begun it.
        fitted: whether the public artifacts were computed again.
        skipped: why public images were left out then, by sample id.
        source: what the public source left out then.
        passed: what the rows' images passed through again: "backbone", "routing blocks" or "nothing".
        rows: how many rows the store has.
        state_root: of the new generation.
    """

    generation: str
    resumed: bool
    fitted: bool
    skipped: Mapping[str, str]
    source: SourceReport
    passed: str
    rows: int
    state_root: str


def rebuild(
    coordinator: Any,
    site: StoreRef,
    config: Config,
    renamed: Mapping[str, str],
    report: Progress,
    *,
    skip_bad: bool = False,
) -> RebuildSummary:
    """Give a store the state of another configuration, or of the same one under the numerics of these nodes.

    A rebuild that was begun with the same configuration is gone on with.

    Args:
        coordinator: the coordinator's actor handle.
        site: the store and its keys.
        config: the new configuration.
        renamed: labels of the store that have another name in it.
        report: called with what is being done, how much of it is done, and how much there is.
        skip_bad: leave undecodable public images out instead of refusing.

    Raises:
        ConfigError: when nothing would change, a rebuild with another configuration is under way, or labels do not
            fit.
        BackboneError, DataError: when the public artifacts cannot be made.
        LMEraserError: when clusters cannot be tuned, or the draft keeps failing; the live generation goes on.
    """
    store, hash_key = open_store(site.store_uri), load_hash_key(Path(site.keys_folder))
    live = load_manifest(store)
    wanted = config.state(config.labels or live.config.labels)
    status: RebuildStatus | None = ray.get(coordinator.rebuild_status.remote())
    fitted: FittedArtifacts | None = None
    if status is None or not draft_of(store, status.generation).exists(MANIFEST):
        trained = trained_weights(config, store)
        keeps_artifacts = _keeps_artifacts(live, wanted, config, trained)
        if keeps_artifacts:
            _check_changes(live, wanted)
        check_labels(live.config.labels, wanted.labels, renamed, live_labels(store, hash_key))
        if keeps_artifacts:
            artifacts = load_public(store, live)
        else:
            fitted = fit(config, wanted, trained or _kept_weights(store, live, config), report, skip_bad=skip_bad)
            artifacts = fitted.artifacts
        generation = status.generation if status is not None else ray.get(coordinator.begin_rebuild.remote())
        try:
            create_draft(store, generation, wanted, artifacts, renamed)
        except StoreFormatError:
            # Another command that goes on with it was first.
            _check_resumable(draft_of(store, generation), generation, wanted, renamed)
    else:
        generation = status.generation
        _check_resumable(draft_of(store, generation), generation, wanted, renamed)
    ray.get(coordinator.open_draft.remote())
    manifest = load_manifest(draft_of(store, generation))
    passed = DraftRows(live, manifest, renamed, _no_pipeline).computes
    on_gpu = manifest.config.backbone.device == "cuda"
    Fill(coordinator, site, generation, renamed, report, numerics_selector(manifest.fingerprint), on_gpu).run()
    newest = load_manifest(store)
    if newest.generation != generation:
        raise NotReadyError(f"the rebuild of generation {generation} was abandoned by another command")
    after = ray.get(coordinator.status.remote())
    return RebuildSummary(
        generation,
        resumed=status is not None,
        fitted=fitted is not None,
        skipped=fitted.skipped if fitted is not None else {},
        source=fitted.source if fitted is not None else SourceReport(),
        passed=passed,
        rows=after.rows,
        state_root=after.state_root,
    )


def watch(coordinator: Any, report: Progress) -> bool:
    """Report how far the rebuild that is under way is, until it ends; False if none is."""
    if ray.get(coordinator.rebuild_status.remote()) is None:
        return False
    while (status := ray.get(coordinator.rebuild_status.remote())) is not None:
        show(status, report)
        time.sleep(POLL_S)
    return True


def _no_pipeline() -> Pipeline:
    raise AssertionError("only asked whether anything is computed")


def _check_changes(live: Manifest, wanted: StateConfig) -> None:
    if asdict(live.config) == asdict(wanted) and live.fingerprint == fingerprint_here(live.fingerprint):
        raise ConfigError("nothing would change: the store has this configuration, under the numerics of this machine")


def _keeps_artifacts(live: Manifest, wanted: StateConfig, config: Config, trained: State | None) -> bool:
    """Whether the public artifacts would be the same; trained weights may be others under the same configuration."""
    digest = live.public_digests["backbone"]
    if not digest.startswith(config.backbone_digest) or not same_public_artifacts(live, wanted):
        return False
    return (
        trained is None
        or backbone_digest(open_routed(wanted, replace(wanted.backbone, device="cpu"), trained)) == digest
    )


def _kept_weights(store: Store, live: Manifest, config: Config) -> State | None:
    """The weights of the live generation, for a configuration that pins them although they were trained elsewhere.

    The name of trained weights contains the path of the public rows, which may be another one on this machine.
    """
    pinned = config.backbone_digest
    if config.backbone.weights != "trained" or not pinned or not live.public_digests["backbone"].startswith(pinned):
        return None
    return {name: torch.from_numpy(array) for name, array in load_part(store, live, "backbone").items()}


def _check_resumable(draft: Store, generation: str, wanted: StateConfig, renamed: Mapping[str, str]) -> None:
    begun, names = load_manifest(draft).config, json.loads(draft.get(RENAMED))
    if asdict(begun) != asdict(wanted) or names != dict(renamed):
        raise ConfigError(
            f"generation {generation} is being made with another configuration or other labels: give those again to "
            "finish it, or run `lmeraser rebuild --abandon` first"
        )
