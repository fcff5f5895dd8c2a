"""What a rebuild costs by what changes: row-passes through the backbone, against a fresh ingest of the same rows.

Coordinator, owners and the job's steps run in this process, with the pipelines of the settings. Row-passes are counted
at the backbone (decision 26); those over public rows, which a change of the backbone or of the libraries needs too, are
not among them. Writes ``rebuild.json``.

    python -m benchmarks.bench_rebuild --data ../shared/data --out /tmp/bench
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.coordinator import Coordinator
from actors.incoming import put_rows
from actors.owners import InProcessOwners, Owners
from actors.refill import draft_samples, live_batches, put_missing
from benchmarks.lib.pipelines import open_pipeline, store_folder
from benchmarks.lib.plotting import DOCS
from benchmarks.lib.runs import OURS
from benchmarks.lib.settings import SIZES, Setting, find_setting
from lmeraser.baselines.cost import Cost, measured
from lmeraser.config import StateConfig
from lmeraser.data import open_source
from lmeraser.learning.backbone import Backbone, VitBackbone
from lmeraser.state.draft_rows import DraftRows
from lmeraser.state.keys import init_keys, load_hash_key, load_signing_key, public_pem
from lmeraser.state.layout import PUBLIC_KEY
from lmeraser.state.manifest import Manifest, draft_of, load_manifest
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.pipeline_loading import load_pipeline
from lmeraser.state.pipeline_loading import open_pipeline as pipeline_over
from lmeraser.state.provenance import same_public_artifacts
from lmeraser.state.public_artifacts import create_draft, load_public
from lmeraser.state.public_fit import build_public
from lmeraser.store import LocalStore, Store

_CHUNK = 256
CHANGES: dict[str, Callable[[StateConfig], StateConfig]] = {
    "a label": lambda config: replace(config, labels=(*config.labels, "another")),
    "a quarter of max_cluster_rows": lambda config: replace(
        config, partition=replace(config.partition, max_cluster_rows=config.partition.max_cluster_rows // 4)
    ),
    "half of coreset_rows": lambda config: replace(
        config, tuning=replace(config.tuning, coreset_rows=config.tuning.coreset_rows // 2)
    ),
    "half of head_dim": lambda config: replace(
        config, heads=replace(config.heads, head_dim=config.heads.head_dim // 2)
    ),
    "half of the anchors": lambda config: replace(
        config, partition=replace(config.partition, anchors=config.partition.anchors // 2)
    ),
}


class OneDraft(InProcessOwners):
    """Owners whose draft has a pipeline that is there already, so that its passes are counted."""

    draft: Pipeline

    def of_draft(self, store: Store, manifest: Manifest) -> InProcessOwners:
        live, _, hash_key = self._context
        return InProcessOwners(store, manifest, hash_key, lambda: self.draft, live)


@dataclass(frozen=True)
class Bench:
    """A folder with a store that holds the rows of a setting, tuned, and with its keys."""

    setting: Setting
    folder: Path

    @property
    def store(self) -> LocalStore:
        return LocalStore(self.folder / "store")

    def copy(self, name: str) -> Bench:
        """A copy that may be changed."""
        folder = self.folder.with_name(name)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder)
        return replace(self, folder=folder)

    def coordinator(self, owners: Owners) -> Coordinator:
        """A coordinator that works on request."""
        keys, store = self.folder / "keys", self.store
        return Coordinator(store, load_manifest(store), load_hash_key(keys), load_signing_key(keys), owners, 0.0)

    def owners(self, pipeline: Pipeline) -> OneDraft:
        """Owners that share a pipeline."""
        return OneDraft(self.store, load_manifest(self.store), load_hash_key(self.folder / "keys"), lambda: pipeline)

    def ingest(self, pipeline: Pipeline) -> None:
        """Add the rows of the setting, and have all clusters tuned."""
        coordinator, rows = self.coordinator(self.owners(pipeline)), self.setting.training_rows(0)
        prefix = coordinator.begin_ingest()
        for start in range(0, len(rows), _CHUNK):
            table = pipeline.rows(rows[start : start + _CHUNK])
            put_rows(self.store, load_hash_key(self.folder / "keys"), f"{prefix}{start:06d}", table, seed=0)
        coordinator.ingest(prefix)
        while coordinator.step():
            pass

    def rebuild(self, config: StateConfig) -> Cost:
        """Rebuild the store to a configuration; gives the cost of everything but the public artifacts."""
        store, hash_key, live = self.store, load_hash_key(self.folder / "keys"), load_manifest(self.store)
        owners = self.owners(load_pipeline(store, live))
        coordinator = self.coordinator(owners)
        artifacts = load_public(store, live)
        if not same_public_artifacts(live, config):
            source = open_source(self.setting.config.public)
            state = pipeline_over(live.config, artifacts).backbone.model.state_dict()
            artifacts = build_public(config, state, source.samples(source.labels))
        generation = coordinator.rebuilds.begin()
        manifest = create_draft(store, generation, config, artifacts, {})
        owners.draft = pipeline = load_pipeline(draft_of(store, generation), manifest)

        rows = DraftRows(live, manifest, {}, lambda: pipeline)

        def run() -> None:
            coordinator.rebuilds.open()
            while (status := coordinator.rebuilds.status()) is not None and status.draft is None:
                coordinator.step()
            have_M = draft_samples(store, hash_key, generation)
            for batch in live_batches(store):
                prefix = coordinator.rebuilds.begin_fill()
                put_missing(store, hash_key, generation, rows, have_M, prefix, batch)
                added = coordinator.rebuilds.fill(prefix)
                while not added.done():
                    coordinator.step()
            while not coordinator.rebuilds.switched:
                coordinator.step()

        with _Routed(pipeline.backbone) as routed:
            cost = measured(pipeline.backbone, run)[1]
        return cost + Cost(forward_row_passes=routed.row_passes)


class _Routed(AbstractContextManager["_Routed"]):
    """Counts what :func:`measured` does not see: the last routing block gives the mean of its patches by other calls.

    Attributes:
        rows: how many passed the attention of that block, and not the block as such.
    """

    def __init__(self, backbone: Backbone) -> None:
        assert isinstance(backbone, VitBackbone)
        self._blocks = len(backbone.vit.blocks)
        block: Any = backbone.vit.blocks[backbone.routing_block - 1]
        self.rows = 0
        self._hooks = [
            block.attn.register_forward_hook(lambda _, inputs, __: self._count(len(inputs[0]))),
            block.register_forward_hook(lambda _, inputs, __: self._count(-len(inputs[0]))),
        ]

    @property
    def row_passes(self) -> float:
        """As a share of the whole backbone, as if the block had run whole."""
        return self.rows / self._blocks

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _count(self, rows: int) -> None:
        self.rows += rows


def main() -> None:
    """Measure what is asked for, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True, help="folder for stores")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the figures")
    parser.add_argument("--setting", nargs="*", default=["digits", "gtsrb"], choices=list(SIZES))
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for name in arguments.setting:
        setting = find_setting(name, arguments.data)
        found[f"{name}, {setting.rows} rows"] = costs(setting, arguments.out)
        (arguments.docs / "rebuild.json").write_text(json.dumps(found, indent=2) + "\n")


def made(setting: Setting, out: Path) -> tuple[Bench, Cost]:
    """A bench with the rows of a setting, and what their ingest cost."""
    folder = out / f"rebuild-{setting.results_key}" / "original"
    shutil.rmtree(folder.parent, ignore_errors=True)
    open_pipeline(setting, out, 0, OURS)
    shutil.copytree(store_folder(setting, out, OURS), folder / "store")
    init_keys(folder / "keys")
    bench = Bench(setting, folder)
    bench.store.put(PUBLIC_KEY, public_pem(load_signing_key(folder / "keys").public_key()))
    pipeline = load_pipeline(bench.store, load_manifest(bench.store))
    return bench, measured(pipeline.backbone, lambda: bench.ingest(pipeline))[1]


def costs(setting: Setting, out: Path) -> dict[str, dict[str, float]]:
    """The cost of a fresh ingest and of each kind of rebuild."""
    bench, fresh = made(setting, out)
    config = load_manifest(bench.store).config
    rows = {"fresh ingest": shown(fresh, fresh)}
    for what, change in CHANGES.items():
        cost = bench.copy("changed").rebuild(change(config))
        rows[what] = shown(cost, fresh)
        print(setting.name, what, rows[what], flush=True)
    return rows


def shown(cost: Cost, fresh: Cost) -> dict[str, float]:
    """Row-passes and processor seconds, and their shares of those of a fresh ingest."""
    return {
        "row_passes": round(cost.row_passes),
        "share_of_fresh": round(cost.row_passes / fresh.row_passes, 3),
        "processor_s": round(cost.processor_s, 1),
        "processor_share": round(cost.processor_s / fresh.processor_s, 3),
    }


if __name__ == "__main__":
    main()
