"""What all runs of a setting and seed share: public artifacts, rows with their plain features, and test images.

Legend: N rows, P pixels per side, R routing features, F raw head features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.lib.pipelines import open_pipeline, prompt_options, store_folder, with_options
from benchmarks.lib.run import Run
from benchmarks.lib.settings import Setting
from lmeraser.data import Sample
from lmeraser.learning.tuning import TuningRows
from lmeraser.state.pipeline import Pipeline
from lmeraser.state.rows import RowTable


@dataclass(frozen=True)
class RememberingPipeline(Pipeline):
    """A pipeline that passes an image without a cluster prompt once, and knows its plain features from then on.

    Attributes:
        plain_of: routing and raw head features by the digest of the image.
    """

    plain_of: dict[bytes, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict, repr=False)

    def plain(self, images_N3PP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See Pipeline.plain."""
        digests = [hashlib.sha256(image_3PP.tobytes()).digest() for image_3PP in images_N3PP]
        unknown = [row for row, digest in enumerate(digests) if digest not in self.plain_of]
        if unknown or not digests:
            routing_MR, head_MF = super().plain(images_N3PP[unknown])
            if not digests:
                return routing_MR, head_MF
            for row, routing_R, head_F in zip(unknown, routing_MR, head_MF, strict=True):
                self.plain_of[digests[row]] = (routing_R, head_F)
        routings, heads = zip(*(self.plain_of[digest] for digest in digests), strict=True)
        return np.stack(routings), np.stack(heads)


@dataclass(frozen=True)
class Workload:
    """A setting at one seed, ready for its runs.

    Attributes:
        setting: rows and backbone.
        seed: draws rows and everything else.
        pipeline: over the public artifacts of the runs' prompt options, with the setting's own configuration.
        train: the private rows.
        images_N3PP: their images, uint8.
        test: the rows by which accuracy is measured.
        test_images_N3PP: their images.
        test_labels_N: their labels, int64.
    """

    setting: Setting
    seed: int
    pipeline: RememberingPipeline
    train: list[Sample] = field(repr=False)
    images_N3PP: np.ndarray = field(repr=False)
    test: list[Sample] = field(repr=False)
    test_images_N3PP: np.ndarray = field(repr=False)
    test_labels_N: np.ndarray = field(repr=False)

    @staticmethod
    def prepare(setting: Setting, seed: int, run: Run, folder: Path) -> Workload:
        """Make or read what is shared with this run; plain features are kept under the folder."""
        opened = open_pipeline(setting, folder, seed, Run("ours", prompt_options(run)))
        pipeline = RememberingPipeline(**{each.name: getattr(opened, each.name) for each in fields(Pipeline)})
        train, test = setting.training_rows(seed), setting.test_samples(seed)
        images_N3PP, test_images_N3PP = (pipeline.decode(row.image for row in rows) for rows in (train, test))
        artifacts = store_folder(setting, folder, run).name
        file = folder / "plain" / f"{setting.results_key}-{setting.rows}-{setting.test_rows}-{seed}-{artifacts}.npz"
        _know_plain(pipeline, np.concatenate([images_N3PP, test_images_N3PP]), file)
        return Workload(setting, seed, pipeline, train, images_N3PP, test, test_images_N3PP, _labels(test))

    def without(self, sample_ids: Collection[str]) -> Workload:
        """The same without these private rows."""
        removed = frozenset(sample_ids)
        remains = [row for row, sample in enumerate(self.train) if sample.sample_id not in removed]
        return replace(self, train=[self.train[row] for row in remains], images_N3PP=self.images_N3PP[remains])

    def pipeline_of(self, run: Run) -> Pipeline:
        """The pipeline with the run's options."""
        return replace(self.pipeline, config=with_options(self.pipeline.config, run))

    def serves(self, setting: Setting, seed: int, run: Run) -> bool:
        """Whether this is what the run needs."""
        prompt = replace(setting.config.prompt, **dict(prompt_options(run)))
        return (self.setting, self.seed, self.pipeline.config.prompt) == (setting, seed, prompt)

    @cached_property
    def table(self) -> RowTable:
        """The private rows as the store has them."""
        return self.pipeline.rows_of_images(self.train, self.images_N3PP)

    @cached_property
    def tuning_rows(self) -> TuningRows:
        """The private rows as a tuning has them."""
        ids = tuple(sample.sample_id for sample in self.train)
        return TuningRows(ids, self.images_N3PP, _labels(self.train))


def _labels(samples: list[Sample]) -> np.ndarray:
    return np.array([sample.label for sample in samples])


def _know_plain(pipeline: RememberingPipeline, images_N3PP: np.ndarray, file: Path) -> None:
    """Read the plain features of images from the file; compute them and write it where there is none."""
    if file.exists():
        with np.load(file) as kept:
            features = zip(kept["digests_N"], kept["routing_NR"], kept["head_NF"], strict=True)
            pipeline.plain_of.update((digest.tobytes(), (routing, head)) for digest, routing, head in features)
        return
    pipeline.plain(images_N3PP)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npz")
    np.savez(
        partial,
        digests_N=np.array([np.frombuffer(digest, np.uint8) for digest in pipeline.plain_of]),
        routing_NR=np.stack([routing for routing, _ in pipeline.plain_of.values()]),
        head_NF=np.stack([head for _, head in pipeline.plain_of.values()]),
    )
    partial.rename(file)
