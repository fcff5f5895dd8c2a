"""The method over fixed public artifacts: from samples to rows, and from rows to specialists.

Legend: N rows, B rows of a batch, P pixels per side, F raw head features, H head features, R routing features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch

from lmeraser.config import StateConfig
from lmeraser.data import Sample, decode_image
from lmeraser.learning.anchors import AnchorIndex
from lmeraser.learning.backbone import Backbone, Features
from lmeraser.learning.feature_map import FeatureMap
from lmeraser.learning.numerics import deterministic, in_fixed_batches
from lmeraser.learning.partition import Dendrogram, Partition, cut
from lmeraser.learning.prompts import LowerPart, PromptKind
from lmeraser.learning.tuning import TuningRows, tune_prompt
from lmeraser.progress import StepProgress
from lmeraser.state.rows import RowTable
from lmeraser.state.specialist import Specialist

# Images that are decoded at a time.
_DECODED_ROWS = 256
T = TypeVar("T")


@dataclass(frozen=True)
class Pipeline:
    """Public artifacts and configuration, ready to process private rows.

    Attributes:
        config: the part of the configuration that determines the state.
        backbone: frozen.
        prompt_kind: how a prompt enters the backbone.
        anchor_index: finds the nearest anchor.
        dendrogram: Ward linkage over the anchors.
        feature_map: maps raw head features to the grid.
        feature_batch: rows in one batch of the feature extraction.
        public_prompt: prompt for rows without a specialist; None if the store has none.
    """

    config: StateConfig
    backbone: Backbone
    prompt_kind: PromptKind
    anchor_index: AnchorIndex
    dendrogram: Dendrogram
    feature_map: FeatureMap
    feature_batch: int
    public_prompt: torch.Tensor | None = None

    def rows(self, samples: Iterable[Sample]) -> RowTable:
        """Rows of these samples, with nearest anchors, and features under the public prompt if there is one.

        Raises:
            UndecodableImageError: when an image cannot be decoded.
        """
        samples = list(samples)
        return self.rows_of_images(samples, self.decode(sample.image for sample in samples))

    def rows_of_images(self, samples: Sequence[Sample], images_N3PP: np.ndarray) -> RowTable:
        """The same for samples whose images are already decoded, uint8 [N, 3, P, P]."""
        order = sorted(range(len(samples)), key=lambda row: samples[row].sample_id)
        ordered = [samples[row] for row in order]
        routing_NR, head_NF = self.plain(images_N3PP[order])
        with deterministic():
            return RowTable(
                sample_ids=tuple(sample.sample_id for sample in ordered),
                subject_ids=tuple(sample.subject_id for sample in ordered),
                labels_N=np.array([sample.label for sample in ordered], np.int64),
                images=tuple(sample.image for sample in ordered),
                anchors_N=self.anchor_index.nearest(routing_NR),
                features_NH=self.feature_map.project(head_NF),
            )

    def plain(self, images_N3PP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Routing features [N, R], and raw head features [N, F] under the public prompt if there is one; float32."""
        return extract_routed(self.backbone, images_N3PP, self.feature_batch, self.prompt_kind, self.public_prompt)

    def anchors(self, images: Iterable[bytes]) -> np.ndarray:
        """The nearest anchors of encoded images, as :meth:`rows` has them; only the routing blocks run.

        Raises:
            UndecodableImageError: when an image cannot be decoded.
        """
        routing_NR = extract_routing(self.backbone, self.decode(images), self.feature_batch, self.prompt_kind)
        with deterministic():
            return self.anchor_index.nearest(routing_NR)

    def partition(self, anchors_N: np.ndarray, bits_N: np.ndarray) -> Partition:
        """The prompt clusters of rows at these anchors with these bits."""
        return cut(self.dendrogram, anchors_N, bits_N, self.config.partition.max_cluster_rows)

    def specialist(
        self,
        rows: RowTable,
        report: StepProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Specialist:
        """Tune one cluster's prompt on its coreset, and extract the features of all its rows under it.

        Raises:
            TuningCancelledError: when ``cancelled`` returned True.
        """
        prompt = self.tuned_prompt(self.coreset(rows), report, cancelled)
        return Specialist(prompt, self.embedded(rows.images, prompt), rows.labels_N)

    def coreset(self, rows: RowTable) -> RowTable:
        """The rows of a cluster that its prompt is tuned on."""
        return rows.coreset(self.config.seed, self.config.tuning.coreset_rows)

    def tuned_prompt(
        self,
        rows: RowTable,
        report: StepProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> np.ndarray:
        """A prompt tuned on the rows of a coreset, float32.

        Raises:
            TuningCancelledError: when ``cancelled`` returned True.
        """
        tuning_rows = TuningRows(rows.sample_ids, self.decode(rows.images), rows.labels_N)
        return self.tuned(tuning_rows, report, cancelled).cpu().numpy()

    def embedded(self, images: Sequence[bytes], prompt: np.ndarray) -> np.ndarray:
        """Features on the grid under a prompt, int16 [N, H], of encoded images."""
        if not images:
            return np.zeros((0, self.feature_map.width), np.int16)
        parts = chunks(images, _DECODED_ROWS)
        return np.concatenate([self.prompted(self.decode(part), torch.from_numpy(prompt)) for part in parts])

    def tuned(
        self,
        rows: TuningRows,
        report: StepProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> torch.Tensor:
        """A prompt tuned on these rows for the closed-form heads, starting from the public prompt if there is one.

        Raises:
            TuningCancelledError: when ``cancelled`` returned True.
        """
        return tune_prompt(
            self.backbone,
            self.config,
            rows,
            report=report,
            cancelled=cancelled,
            start=self.public_prompt,
            feature_map=self.feature_map,
        )

    def prompted(self, images_N3PP: np.ndarray, prompt: torch.Tensor) -> np.ndarray:
        """Features on the grid under a prompt, int16 [N, H], of images, uint8 [N, 3, P, P]."""
        head_NF = extract_head(self.backbone, images_N3PP, self.feature_batch, self.prompt_kind, prompt)
        with deterministic():
            return self.feature_map.project(head_NF)

    def decode(self, images: Iterable[bytes]) -> np.ndarray:
        """Encoded images as uint8 [N, 3, P, P]."""
        size = self.config.backbone.image_px
        decoded = [decode_image(image, size) for image in images]
        return np.stack(decoded) if decoded else np.zeros((0, 3, size, size), np.uint8)


def extract_head(
    backbone: Backbone,
    images_N3PP: np.ndarray,
    batch: int,
    prompt_kind: PromptKind | None = None,
    prompt: torch.Tensor | None = None,
) -> np.ndarray:
    """Raw head features [N, F], float32, under a prompt if there is one, in batches of fixed shape."""

    def run(images_B3PP: np.ndarray) -> tuple[np.ndarray]:
        pixels_B3PP = backbone.normalise(torch.from_numpy(images_B3PP))
        if prompt_kind is None:
            return (backbone.features_of_pixels(pixels_B3PP).head_NF.cpu().numpy(),)
        return (_features(prompt_kind.lower(pixels_B3PP), prompt, pixels_B3PP).head_NF.cpu().numpy(),)

    with deterministic(), torch.inference_mode():
        return in_fixed_batches(run, images_N3PP, batch)[0]


def extract_routing(backbone: Backbone, images_N3PP: np.ndarray, batch: int, prompt_kind: PromptKind) -> np.ndarray:
    """Routing features [N, R] alone, bit for bit those of :func:`extract_routed`."""

    def run(images_B3PP: np.ndarray) -> tuple[np.ndarray]:
        return (prompt_kind.routing(backbone.normalise(torch.from_numpy(images_B3PP))).cpu().numpy(),)

    with deterministic(), torch.inference_mode():
        return in_fixed_batches(run, images_N3PP, batch)[0]


def extract_routed(
    backbone: Backbone,
    images_N3PP: np.ndarray,
    batch: int,
    prompt_kind: PromptKind,
    prompt: torch.Tensor | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Routing features [N, R], which depend on no prompt, and raw head features [N, F] as by :func:`extract_head`.

    The blocks below the prompt run once for both.
    """

    def run(images_B3PP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels_B3PP = backbone.normalise(torch.from_numpy(images_B3PP))
        lower = prompt_kind.lower(pixels_B3PP)
        features = _features(lower, prompt, pixels_B3PP)
        return lower.routing().cpu().numpy(), features.head_NF.cpu().numpy()

    with deterministic(), torch.inference_mode():
        routing_NR, head_NF = in_fixed_batches(run, images_N3PP, batch)
        return routing_NR, head_NF


def chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """The values in lists of at most ``size``."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _features(lower: LowerPart, prompt: torch.Tensor | None, pixels_B3PP: torch.Tensor) -> Features:
    if prompt is None:
        return lower.plain()
    return lower.features(prompt.to(pixels_B3PP.device).expand(len(pixels_B3PP), *prompt.shape))
