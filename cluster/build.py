"""Making a store: Ray workers compute the public artifacts from the public rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cluster.public_rows import PublicRows, State, fit_artifacts
from cluster.trained_weights import weights_name
from lmeraser.config import Config, StateConfig
from lmeraser.data import (
    SourceReport,
    check_samples,
    declared_labels,
    located,
    open_public,
    open_source,
)
from lmeraser.errors import BackboneError, ConfigError
from lmeraser.progress import Progress
from lmeraser.state.keys import load_signing_key, public_pem
from lmeraser.state.layout import MANIFEST, PUBLIC_KEY
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.state.pipeline_loading import open_routed
from lmeraser.state.public_artifacts import PublicArtifacts, create_store
from lmeraser.state.public_draw import PublicDraw
from lmeraser.state.public_fit import backbone_digest, check_public_rows
from lmeraser.state.tensors import tensors_from_bytes
from lmeraser.store import Store


@dataclass(frozen=True)
class BuildResult:
    """A store, and what was left out when it was made; nothing if it existed before.

    Attributes:
        manifest: the store's.
        skipped: why public images were left out, by sample id.
        source: what the public source left out.
    """

    manifest: Manifest
    skipped: Mapping[str, str] = field(default_factory=dict)
    source: SourceReport = field(default_factory=SourceReport)


def open_or_build(config: Config, store: Store, keys: Path, report: Progress, *, skip_bad: bool = False) -> BuildResult:
    """Open the store, or make it from the public rows if it does not exist yet.

    Args:
        config: the configuration.
        store: the store, which may be empty.
        keys: the key folder.
        report: called with what is being done, how much of it is done, and how much there is.
        skip_bad: leave undecodable public images out instead of refusing.

    Raises:
        ConfigError: when the store was made with another configuration.
        BackboneError: when the backbone cannot be opened, must be trained first, or its weights do not have the digest
            that ``backbone_digest`` pins.
        DataError: when the public rows cannot be used, or are fewer than the anchors.
        KeysError: when the signing key is missing.
        StoreError: when Store.check refuses the store's location.
    """
    # Fail before any work if the private source cannot be read.
    opened = open_source(config.private, images=config.images)
    state_config = config.state(config.labels or opened.labels or declared_labels(config.private))
    if store.exists(MANIFEST):
        manifest = load_manifest(store)
        _check_same(manifest.config, state_config, store.uri, labels_are_listed=bool(config.labels))
        manifest.check_lease(config.lease_s)
        _check_digest(manifest.public_digests["backbone"], config.backbone_digest)
        return BuildResult(manifest)
    public_key = load_signing_key(keys).public_key()
    store.check()
    fitted = fit(config, state_config, trained_weights(config, store), report, skip_bad=skip_bad)
    store.put(PUBLIC_KEY, public_pem(public_key))
    manifest = create_store(store, state_config, fitted.artifacts, config.lease_s)
    return BuildResult(manifest, fitted.skipped, fitted.source)


@dataclass(frozen=True)
class FittedArtifacts:
    """Public artifacts, and what was left out when they were made; see :class:`BuildResult`."""

    artifacts: PublicArtifacts
    skipped: Mapping[str, str]
    source: SourceReport


def fit(
    config: Config, state_config: StateConfig, trained: State | None, report: Progress, *, skip_bad: bool
) -> FittedArtifacts:
    """Compute the public artifacts from the public rows.

    Args:
        config: says where the public rows are.
        state_config: the part of it that determines the state.
        trained: weights for ``backbone.weights: trained``.
        report, skip_bad: see :func:`open_or_build`.

    Raises:
        BackboneError, DataError: see :func:`open_or_build`.
    """
    public = located(config.public)
    left_out = SourceReport()
    opened = open_public(public, config.images, left_out)
    check = check_samples(opened.samples(opened.labels), opened.labels, skip_bad=skip_bad, images=config.images)
    draw = PublicDraw.of(state_config, check)
    check_public_rows(state_config, draw.rows)
    rows = PublicRows(public, config.images, frozenset(check.skipped))
    backbone = open_routed(state_config, replace(state_config.backbone, device="cpu"), trained)
    if config.backbone_digest:
        _check_digest(backbone_digest(backbone), config.backbone_digest)
    artifacts = fit_artifacts(state_config, backbone, rows, draw, report)
    return FittedArtifacts(artifacts, check.skipped, left_out)


def trained_weights(config: Config, store: Store) -> State | None:
    """The weights that ``lmeraser pretrain`` put into the store; None unless the configuration uses them."""
    if config.backbone.weights != "trained" or not store.exists(name := weights_name(config)):
        return None
    tensors = tensors_from_bytes(store.get(name), name)
    return {key: torch.from_numpy(array) for key, array in tensors.items()}


def _check_digest(digest: str, pinned: str) -> None:
    if not digest.startswith(pinned):
        raise BackboneError(f"the backbone's weights have the digest {digest}, but backbone_digest is {pinned}")


def _check_same(stored: StateConfig, requested: StateConfig, uri: str, labels_are_listed: bool) -> None:
    before, now = _flat(asdict(stored)), _flat(asdict(requested))
    differing = [
        f"{name} is {before.get(name)!r} there and {now.get(name)!r} here"
        for name in sorted(set(before) | set(now))
        if before.get(name) != now.get(name)
    ]
    if differing:
        remedy = "`lmeraser rebuild` gives the store this configuration"
        if stored.labels != requested.labels and not labels_are_listed:
            # One batch of rows need not contain every label.
            listed = json.dumps(stored.labels, ensure_ascii=False)
            remedy = f"List the store's labels in the configuration, as `labels: {listed}`"
        raise ConfigError(f"{uri} was made with another configuration: {'; '.join(differing)}. {remedy}")


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{prefix}{name}.") if isinstance(item, dict) else {f"{prefix}{name}": item}
    return flat
