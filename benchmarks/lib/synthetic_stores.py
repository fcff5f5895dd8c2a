"""Stores of digits from which the benchmarks delete, and a coordinator that works on them without Ray.

Rows are scikit-learn's digits; from the 1506th on each is one of them again, moved by up to a pixel and with noise of
its own. The backbone is not trained: seconds do not depend on its weights.
"""

from __future__ import annotations

import _thread
import io
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from actors.coordinator import Coordinator
from actors.incoming import put_rows
from actors.owners import InProcessOwners
from benchmarks.lib.background import meanwhile, wait_until
from lmeraser.config import Config, StateConfig
from lmeraser.data import Sample, open_source
from lmeraser.hashing import draw_uint64
from lmeraser.learning.backbone import create_model
from lmeraser.state.commit import Commit, commits_in
from lmeraser.state.keys import load_hash_key, load_signing_key
from lmeraser.state.log import Log
from lmeraser.state.manifest import load_manifest
from lmeraser.state.pipeline import Pipeline, chunks
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.state.public_artifacts import PublicArtifacts
from lmeraser.state.public_fit import build_public
from lmeraser.state.rows import RowTable
from lmeraser.state.stored_objects import read_rows_of
from lmeraser.store import LocalStore

_POLL_S = 0.02
_PUT_ROWS = 5000
# Largest of the features of a stand-in, on the grid: a quarter.
_NOISE = 64


class StandIn(Pipeline):
    """Gives a prompt and prompted features of the right size without a pass through the backbone."""

    def tuned_prompt(self, *_: Any) -> np.ndarray:
        return self.prompt_kind.start(self.config.seed).numpy()

    def embedded(self, images: Sequence[bytes], _: np.ndarray) -> np.ndarray:
        shape = (len(images), self.feature_map.width)
        return np.random.default_rng(len(images)).integers(-_NOISE, _NOISE + 1, shape, np.int16)


@dataclass(frozen=True)
class DigitStore:
    """A folder with a store and its keys. Benchmarks delete from copies.

    Attributes:
        folder: holds ``store`` and ``keys``.
        sample_ids: ids of its rows.
    """

    folder: Path
    sample_ids: tuple[str, ...] = ()

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline of its manifest."""
        store = LocalStore(self.folder / "store")
        return load_pipeline(store, load_manifest(store))


def untrained_artifacts(config: StateConfig, source: Config, max_rows: int | None = None) -> PublicArtifacts:
    """Public artifacts over a backbone with random weights.

    Args:
        config: that of the store.
        source: names the public rows.
        max_rows: how many of them are read; None for all.
    """
    torch.manual_seed(0)
    public = open_source(source.public)
    rows = islice(public.samples(public.labels), max_rows)
    return build_public(config, create_model(config.backbone).state_dict(), rows)


def digit_samples(config: Config, count: int) -> Iterator[Sample]:
    """Digits, then digits moved and with noise, no two alike."""
    source = open_source(config.private)
    digits = list(source.samples(source.labels))
    for number in range(count):
        digit = digits[number % len(digits)]
        name = f"digit-{number:06d}"
        image = digit.image if number < len(digits) else _moved_with_noise(digit.image, number)
        yield Sample(name, name, digit.label, image)


def _moved_with_noise(image: bytes, number: int) -> bytes:
    """An image moved by up to a pixel each way, with noise, drawn from the number."""
    generator = np.random.Generator(np.random.PCG64(draw_uint64(0, "altered", number)))
    pixels = np.asarray(Image.open(io.BytesIO(image)), np.int64)
    moved = np.roll(pixels, generator.integers(-1, 2, 2), axis=(0, 1)) + generator.integers(-24, 25, pixels.shape)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(moved, 0, 255).astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def row_table(pipeline: Pipeline, samples: Iterator[Sample]) -> RowTable:
    """The samples' rows; their images are distinct."""
    table = RowTable.concatenate(map(pipeline.rows, chunks(samples, _PUT_ROWS)), pipeline.feature_map.width)
    assert len(set(table.images)) == len(table)
    return table


def fill(folder: Path, table: RowTable) -> DigitStore:
    """Ingest the rows in pieces, and let the stand-in tune every cluster."""
    store = DigitStore(folder, table.sample_ids)
    with running_coordinator(folder, stand_in(store.pipeline), lease_s=0.0) as coordinator:
        numbers = np.arange(len(table))
        for start in range(0, len(table), _PUT_ROWS):
            piece = table.where((numbers >= start) & (numbers < start + _PUT_ROWS))
            prefix = coordinator.begin_ingest()
            put_rows(LocalStore(folder / "store"), load_hash_key(folder / "keys"), f"{prefix}rows", piece, seed=0)
            coordinator.ingest(prefix).result()
        wait_until(coordinator.idle)
    return store


def stand_in(pipeline: Pipeline) -> Pipeline:
    """The pipeline with a tuning that takes no time."""
    return StandIn(**{field.name: getattr(pipeline, field.name) for field in fields(pipeline)})


def lease_of(folder: Path) -> float:
    """How many seconds an erasure of the store waits for its replicas."""
    return load_manifest(LocalStore(folder / "store")).lease_s


@contextmanager
def running_coordinator(folder: Path, pipeline: Pipeline, lease_s: float) -> Iterator[Coordinator]:
    """A coordinator that a thread steps, pausing when there is nothing to do, as ``CoordinatorActor`` does."""
    store = LocalStore(folder / "store")
    manifest, hash_key = load_manifest(store), load_hash_key(folder / "keys")
    owners = InProcessOwners(store, manifest, hash_key, lambda: pipeline)
    coordinator = Coordinator(store, manifest, hash_key, load_signing_key(folder / "keys"), owners, lease_s)

    def work(ended: threading.Event) -> None:
        try:
            while not ended.is_set():
                if not coordinator.step():
                    coordinator.rest()
        except BaseException:
            # The main thread would wait for ever for this work.
            _thread.interrupt_main()
            raise

    with meanwhile(work):
        yield coordinator


@contextmanager
def copy_of(store: DigitStore) -> Iterator[Path]:
    """The folder of a copy to delete from. It holds hard links, because objects are never changed in place."""
    folder = store.folder.with_name(f"{store.folder.name}-copy")
    shutil.copytree(store.folder / "store", folder / "store", copy_function=os.link)
    shutil.copytree(store.folder / "keys", folder / "keys")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def coreset_ids(store: DigitStore) -> tuple[str, ...]:
    """Ids of the rows that prompts are tuned on."""
    objects, key, pipeline = LocalStore(store.folder / "store"), load_hash_key(store.folder / "keys"), store.pipeline
    entries = [entry for entry in commits(store.folder)[-1].clusters if pipeline.config.tunes(entry.rows)]
    tables = (read_rows_of(objects, key, entry) for entry in entries)
    return tuple(sample_id for table in tables for sample_id in pipeline.coreset(table).sample_ids)


def commits(folder: Path) -> list[Commit]:
    """All commits of a store, oldest first."""
    return commits_in(Log(LocalStore(folder / "store")).advance())
