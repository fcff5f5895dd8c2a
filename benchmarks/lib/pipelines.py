"""Pipelines over public artifacts, which are made once for all settings with this backbone and these public rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.lib.run import Run
from benchmarks.lib.settings import DIGITS_CONFIG, Setting
from lmeraser.config import PromptConfig, StateConfig, load_config
from lmeraser.data import open_source
from lmeraser.hashing import canonical_json
from lmeraser.learning.weights import read_weights
from lmeraser.state.layout import MANIFEST
from lmeraser.state.manifest import load_manifest
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.state.public_artifacts import create_store
from lmeraser.state.public_fit import build_public
from lmeraser.store import LocalStore

# Public artifacts of one seed serve all: making them takes longer than a run.
_PUBLIC_SEED = 0
_PROMPT_OPTIONS = ("kind", "depth", "pad_px", "public_epochs")
_TUNING_OPTIONS = ("epochs", "coreset_rows")
_PARTITION_OPTIONS = ("max_cluster_rows",)


def open_pipeline(setting: Setting, folder: Path, seed: int, run: Run) -> Pipeline:
    """The pipeline with the run's options and this seed; its public artifacts are made where they are missing."""
    config = setting.config
    state_config = _public_config(setting, run)
    store = LocalStore(store_folder(setting, folder, run))
    if not store.exists(MANIFEST):
        weights = _glyph_weights(folder) if config.backbone.weights == "trained" else None
        public = open_source(config.public)
        create_store(store, state_config, build_public(state_config, weights, public.samples(public.labels)))
    pipeline = load_pipeline(store, load_manifest(store))
    return replace(pipeline, config=replace(with_options(state_config, run), seed=seed))


def with_options(config: StateConfig, run: Run) -> StateConfig:
    """The configuration with the run's options that leave the public artifacts as they are: tuning and partition."""
    options = dict(run.options)
    partition, tuning = (
        {name: options[name] for name in names if name in options} for names in (_PARTITION_OPTIONS, _TUNING_OPTIONS)
    )
    return replace(config, partition=replace(config.partition, **partition), tuning=replace(config.tuning, **tuning))


def store_folder(setting: Setting, folder: Path, run: Run) -> Path:
    """Folder of the run's public artifacts, named by what they depend on."""
    config = _public_config(setting, run)
    partition = {**asdict(config.partition), **dict.fromkeys(("max_cluster_rows", "min_tuned_rows"))}
    tuning = {**asdict(config.tuning), **dict.fromkeys(_TUNING_OPTIONS)}
    parts = [asdict(part) for part in (config.backbone, config.prompt, config.heads, setting.config.public)]
    digest = hashlib.sha256(canonical_json([config.seed, partition, tuning, *parts])).hexdigest()[:16]
    return folder / "public" / digest


def prompt_options(run: Run) -> tuple[tuple[str, Any], ...]:
    """The run's options on which the public artifacts depend."""
    return tuple((name, value) for name, value in run.options if name in _PROMPT_OPTIONS)


def _public_config(setting: Setting, run: Run) -> StateConfig:
    prompt: PromptConfig = replace(setting.config.prompt, **dict(prompt_options(run)))
    return replace(setting.config, seed=_PUBLIC_SEED, prompt=prompt).state(setting.labels)


def _glyph_weights(folder: Path) -> Mapping[str, Tensor]:
    """The demo's backbone, trained once by Ray Train."""
    from cluster.pretrain import pretrain
    from cluster.runtime import connect
    from cluster.trained_weights import weights_name

    config = load_config(DIGITS_CONFIG)
    store = LocalStore(folder / "glyphs")
    if not store.exists(weights_name(config)):
        os.environ.setdefault("RAY_ADDRESS", "local")
        connect()
        pretrain(config, store, lambda *_: None)
    return read_weights(folder / "glyphs" / weights_name(config))
