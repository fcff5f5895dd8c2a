"""Pipelines over public artifacts, which are made once for each prompt and seed and kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from benchmarks.lib.methods import Run
from benchmarks.lib.settings import DEMO_CONFIG, Setting
from lmeraser.config import PromptConfig, load_config
from lmeraser.data import open_source
from lmeraser.learning.weights import read_weights
from lmeraser.state.layout import MANIFEST
from lmeraser.state.manifest import load_manifest
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.state.public_artifacts import create_store
from lmeraser.state.public_fit import build_public
from lmeraser.store import LocalStore

_PROMPT_OPTIONS = ("kind", "depth", "pad_px", "public_epochs")


def open_pipeline(setting: Setting, folder: Path, seed: int, run: Run) -> Pipeline:
    """The pipeline with the run's options; its public artifacts are made where they are missing."""
    config = setting.config
    state_config = replace(config, seed=seed, prompt=_prompt(setting, run)).state(setting.labels)
    store = LocalStore(store_folder(setting, folder, seed, run))
    if not store.exists(MANIFEST):
        weights = _glyph_weights(folder) if config.backbone.weights == "trained" else None
        public = open_source(config.public)
        create_store(store, state_config, build_public(state_config, weights, public.samples(public.labels)))
    pipeline = load_pipeline(store, load_manifest(store))
    bound = run.get("bound", state_config.partition.max_cluster_rows)
    epochs = run.get("epochs", state_config.tuning.epochs)
    partition = replace(state_config.partition, max_cluster_rows=bound)
    tuning = replace(state_config.tuning, epochs=epochs)
    return replace(pipeline, config=replace(state_config, partition=partition, tuning=tuning))


def store_folder(setting: Setting, folder: Path, seed: int, run: Run) -> Path:
    """Folder of the run's public artifacts."""
    prompt = "-".join(str(value) for value in asdict(_prompt(setting, run)).values())
    return folder / "public" / f"{setting.results_key}-{seed}-{prompt}"


def _prompt(setting: Setting, run: Run) -> PromptConfig:
    options = dict(run.options)
    return replace(setting.config.prompt, **{key: options[key] for key in _PROMPT_OPTIONS if key in options})


def _glyph_weights(folder: Path) -> Mapping[str, Tensor]:
    """The demo's backbone, trained once by Ray Train."""
    from cluster.pretrain import pretrain
    from cluster.runtime import connect
    from cluster.trained_weights import weights_name

    config = load_config(DEMO_CONFIG)
    store = LocalStore(folder / "glyphs")
    if not store.exists(weights_name(config)):
        os.environ.setdefault("RAY_ADDRESS", "local")
        connect()
        pretrain(config, store, lambda *_: None)
    return read_weights(folder / "glyphs" / weights_name(config))
