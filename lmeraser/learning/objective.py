"""What a tuning makes small, and in which batches it sees the rows.

Two objectives. :class:`LinearHead` is that of visual prompt tuning (arXiv 2203.12119): cross-entropy under a linear
head that is tuned beside the prompt and thrown away. :class:`ClosedForm` is for a prompt whose features the
closed-form heads will read: each step solves a ridge head on one half of the batch and asks it about the other half,
and the gradient passes through the solution (Bertinetto et al. 2019, arXiv 1805.08136, section 3.1).

Legend: N rows, B rows of a batch, M rows of half a batch, H head features, D features of the linear head, C classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from lmeraser.config import StateConfig
from lmeraser.hashing import draw
from lmeraser.learning.backbone import Features
from lmeraser.learning.feature_map import FeatureMap, TorchFeatureMap

# Rows of a class that go into a batch together, so that both halves know the class.
_GROUP_ROWS = 4
# Ridge penalty per row of a half; features have unit variance.
_PENALTY = 1.0
# τ of the ridge head's scores, which are near 1 for the class and near 0 for the others.
_TEMPERATURE = 0.1


class Objective(Protocol):
    """What one tuning makes small."""

    def batches(self, number: int) -> Iterator[np.ndarray]:
        """Positions of the rows in sweep ``number``, at most ``tuning.batch_rows`` at once, each row once."""

    def loss(self, features: Features, labels_B: np.ndarray) -> Tensor:
        """The loss, a scalar, of features of which the first B rows are the batch and the others only fill it."""

    def groups(self) -> list[dict[str, Any]]:
        """Parameters beside the prompt with their ``peak`` rates; asked after the first loss."""


class LinearHead:
    """Cross-entropy under a linear head on the deepest features, which is tuned beside the prompt."""

    def __init__(self, config: StateConfig, ids: Sequence[str]) -> None:
        self._pipeline = config
        self._ids = ids
        self._head: nn.Linear | None = None

    def batches(self, number: int) -> Iterator[np.ndarray]:
        """Rows in the order of a hash."""
        yield from _in_batches(_shuffled(self._pipeline, self._ids, number), self._pipeline.tuning.batch_rows)

    def loss(self, features: Features, labels_B: np.ndarray) -> Tensor:
        """Mean over the batch; a row that fills has weight zero."""
        deepest_BD = features.head_NF[:, -2 * features.routing_NR.shape[1] :]
        deepest_BD = nn.functional.layer_norm(deepest_BD, deepest_BD.shape[1:])
        if self._head is None:
            self._head = nn.Linear(deepest_BD.shape[1], len(self._pipeline.labels), device=deepest_BD.device)
            nn.init.zeros_(self._head.weight)
            nn.init.zeros_(self._head.bias)
        rows = len(deepest_BD)
        filled_B = np.concatenate([labels_B, np.repeat(labels_B[:1], rows - len(labels_B))])
        weights_B = torch.zeros(rows, device=deepest_BD.device)
        weights_B[: len(labels_B)] = 1
        targets_B = torch.from_numpy(filled_B).to(deepest_BD.device)
        losses_B = nn.functional.cross_entropy(self._head(deepest_BD), targets_B, reduction="none")
        return (losses_B * weights_B).sum() / weights_B.sum()

    def groups(self) -> list[dict[str, Any]]:
        """The head."""
        assert self._head is not None
        return [{"params": list(self._head.parameters()), "peak": self._pipeline.tuning.head_learning_rate}]


class ClosedForm:
    """Cross-entropy of what a ridge head, solved on one half of a batch, answers about the other half."""

    def __init__(
        self,
        config: StateConfig,
        ids: Sequence[str],
        labels_N: np.ndarray,
        feature_map: FeatureMap,
        device: torch.device,
    ) -> None:
        self._pipeline = config
        self._ids = ids
        self._labels_N = labels_N
        self._torch_feature_map = TorchFeatureMap(feature_map, device)

    def batches(self, number: int) -> Iterator[np.ndarray]:
        """Groups of rows of one class, in the order of a hash; the halves of a batch one after the other."""
        by_class: dict[int, list[int]] = defaultdict(list)
        for row in _shuffled(self._pipeline, self._ids, number):
            by_class[int(self._labels_N[row])].append(row)
        groups = [
            rows[start : start + _GROUP_ROWS]
            for rows in by_class.values()
            for start in range(0, len(rows), _GROUP_ROWS)
        ]
        groups.sort(key=lambda rows: draw(self._pipeline.seed, "group", number, self._ids[rows[0]]))
        order = [row for rows in groups for row in rows]
        for batch_B in _in_batches(order, self._pipeline.tuning.batch_rows):
            second_B = _second_half(self._labels_N[batch_B])
            yield np.concatenate([batch_B[~second_B], batch_B[second_B]])

    def loss(self, features: Features, labels_B: np.ndarray) -> Tensor:
        """Mean over the rows of each half whose class the other half knows, added up; zero where there are none."""
        features_BH = self._torch_feature_map(features.head_NF[: len(labels_B)])
        onehot_BC = np.eye(len(self._pipeline.labels), dtype=np.float32)[labels_B]
        targets_BC = torch.from_numpy(onehot_BC).to(features_BH.device)
        middle = len(labels_B) - int(_second_half(labels_B).sum())
        if middle == len(labels_B):
            return features_BH.sum() * 0.0
        halves = ((features_BH[:middle], targets_BC[:middle]), (features_BH[middle:], targets_BC[middle:]))
        return _asked(*halves[0], *halves[1]) + _asked(*halves[1], *halves[0])

    def groups(self) -> list[dict[str, Any]]:
        """None: heads follow from the features."""
        return []


def _asked(known_MH: Tensor, known_MC: Tensor, asked_MH: Tensor, asked_MC: Tensor) -> Tensor:
    """Loss of the rows that are asked about under the ridge head of those that are known, in its dual form."""
    answerable_M = (asked_MC @ known_MC.sum(dim=0) > 0).float()
    mean_H, share_C = known_MH.mean(dim=0), known_MC.mean(dim=0)
    centred_MH = known_MH - mean_H
    ridge_MM = torch.eye(len(known_MH), device=known_MH.device) * (_PENALTY * len(known_MH))
    dual_MC = torch.linalg.solve(centred_MH @ centred_MH.T + ridge_MM, known_MC - share_C)
    scores_MC = (asked_MH - mean_H) @ (centred_MH.T @ dual_MC) + share_C
    losses_M = -(asked_MC * nn.functional.log_softmax(scores_MC / _TEMPERATURE, dim=1)).sum(dim=1)
    return (losses_M * answerable_M).sum() / answerable_M.sum().clamp(min=1)


def _second_half(labels_B: np.ndarray) -> np.ndarray:
    """Every second row of each class, bool [B]."""
    second_B = np.zeros(len(labels_B), bool)
    for label in np.unique(labels_B):
        second_B[np.flatnonzero(labels_B == label)[1::2]] = True
    return second_B


def _shuffled(config: StateConfig, ids: Sequence[str], number: int) -> list[int]:
    return sorted(range(len(ids)), key=lambda row: draw(config.seed, "order", number, ids[row]))


def _in_batches(order: Sequence[int], size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), size):
        yield np.array(order[start : start + size])
