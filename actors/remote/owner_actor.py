"""An owner as a Ray actor: named, detached, and rebuilt from the store after a crash."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import ray

from actors.jobs import EmbeddingJob, PromptJob, RowsJob, WrittenFeatures, WrittenPrompt, WrittenRows
from actors.owner import Owner
from actors.passages import passage
from actors.remote.placement import StoreRef
from actors.remote.process import ProcessLocation
from actors.tracing import tracing
from lmeraser.garbage import lasting_imports
from lmeraser.log_level import set_log_level
from lmeraser.state.keys import load_hash_key
from lmeraser.state.manifest import load_manifest
from lmeraser.store import open_store

if TYPE_CHECKING:
    from lmeraser.state.pipeline import Pipeline


class OwnerActor:
    """An owner in its own process. Row writes and cancellations are answered while a tuning runs."""

    def __init__(self, store_ref: StoreRef, key: str) -> None:
        set_log_level()
        self._traces = tracing("owner")
        self._key = key
        store = open_store(store_ref.store_uri)
        manifest = load_manifest(store)

        @functools.cache
        def pipeline() -> Pipeline:
            with lasting_imports():
                from lmeraser.state.pipeline_loading import load_pipeline

            return load_pipeline(store, manifest)

        live = open_store(store_ref.live_uri) if store_ref.live_uri is not None else None
        self._owner = Owner(store, manifest, load_hash_key(Path(store_ref.keys_folder)), key, pipeline, live)

    @ray.method(concurrency_group="control")
    def location(self) -> ProcessLocation:
        """Where this process runs."""
        return ProcessLocation.here()

    @ray.method(concurrency_group="control")
    def write_rows(self, job: RowsJob) -> WrittenRows:
        """See Owner.write_rows."""
        with self._traced("owner.write_rows"):
            return self._owner.write_rows(job)

    @ray.method(concurrency_group="control")
    def cancel(self, target: str) -> None:
        """See Owner.cancel."""
        self._owner.cancel(target)

    @ray.method(concurrency_group="control")
    def progress(self) -> tuple[int, int]:
        """See Owner.progress."""
        return self._owner.progress()

    @ray.method(concurrency_group="work")
    def tune(self, job: PromptJob) -> WrittenPrompt:
        """See Owner.tune."""
        with self._traced("owner.tune"):
            return self._owner.tune(job)

    @ray.method(concurrency_group="work")
    def embed(self, job: EmbeddingJob) -> WrittenFeatures:
        """See Owner.embed."""
        with self._traced("owner.embed"):
            return self._owner.embed(job)

    @contextmanager
    def _traced(self, name: str) -> Iterator[None]:
        with passage(name, self._traces) as passed:
            passed.attributes["cluster"] = self._key
            yield
