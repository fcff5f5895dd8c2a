"""The loss that a tuning minimises, and the batches in which it sees the rows.

There are two objectives. :class:`LinearHead` is that of visual prompt tuning (arXiv 2203.12119): cross-entropy under a
linear head that is tuned together with the prompt and discarded. :class:`ClosedForm` is for a prompt whose features the
closed-form heads will read: each step solves a ridge head on one half of the batch, evaluates it on the other half, and
passes the gradient through the solution (Bertinetto et al. 2019, arXiv 1805.08136, section 3.1; decision 32).

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

# Rows of a class that go into a batch together, so that the class is in both halves.
_GROUP_ROWS = 4
# Ridge penalty per row of a half; features have unit variance.
_PENALTY = 1.0
# τ of the ridge head's scores, which are near 1 for the class and near 0 for the others.
_TEMPERATURE = 0.1


class Objective(Protocol):
    """The loss that one tuning minimises."""

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """The rows of an epoch by position, each once, in batches of at most ``tuning.batch_rows``."""

    def loss(self, features: Features, labels_B: np.ndarray) -> Tensor:
        """The loss, a scalar. The first B rows of the features are the batch; the others only fill it up."""

    def groups(self) -> list[dict[str, Any]]:
        """Parameters besides the prompt, with their ``peak`` rates; to be called after the first loss."""


class LinearHead:
    """Cross-entropy under a linear head on the deepest features that is tuned together with the prompt."""

    def __init__(self, config: StateConfig, ids: Sequence[str]) -> None:
        self._config = config
        self._ids = ids
        self._head: nn.Linear | None = None

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """Rows in the order of their hashes."""
        yield from _in_batches(_shuffled(self._config, self._ids, epoch), self._config.tuning.batch_rows)

    def loss(self, features: Features, labels_B: np.ndarray) -> Tensor:
        """Mean over the batch; rows that fill it up have weight zero."""
        deepest_BD = nn.functional.layer_norm(features.deepest_ND, features.deepest_ND.shape[1:])
        # Made here, because the width depends on the backbone: where its stages are narrow, fewer features are left.
        if self._head is None:
            self._head = nn.Linear(deepest_BD.shape[1], len(self._config.labels), device=deepest_BD.device)
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
        return [{"params": list(self._head.parameters()), "peak": self._config.tuning.head_learning_rate}]


class ClosedForm:
    """Cross-entropy on one half of a batch under a ridge head that is solved on the other half."""

    def __init__(
        self,
        config: StateConfig,
        ids: Sequence[str],
        labels_N: np.ndarray,
        feature_map: FeatureMap,
        device: torch.device,
    ) -> None:
        self._config = config
        self._ids = ids
        self._labels_N = labels_N
        # Only the classes of these rows count, so that a label that none of them has changes nothing.
        self._classes_C = np.unique(labels_N)
        self._torch_feature_map = TorchFeatureMap(feature_map, device)

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        """Groups of rows of one class, in the order of their hashes; each batch has its halves one after the other."""
        by_class: dict[int, list[int]] = defaultdict(list)
        for row in _shuffled(self._config, self._ids, epoch):
            by_class[int(self._labels_N[row])].append(row)
        groups = [
            rows[start : start + _GROUP_ROWS]
            for rows in by_class.values()
            for start in range(0, len(rows), _GROUP_ROWS)
        ]
        groups.sort(key=lambda rows: draw(self._config.seed, "group", epoch, self._ids[rows[0]]))
        order = [row for rows in groups for row in rows]
        for batch_B in _in_batches(order, self._config.tuning.batch_rows):
            second_B = _second_half(self._labels_N[batch_B])
            yield np.concatenate([batch_B[~second_B], batch_B[second_B]])

    def loss(self, features: Features, labels_B: np.ndarray) -> Tensor:
        """The mean over the rows of each half whose class is in the other half, summed over both halves.

        Zero where there are no such rows.
        """
        features_BH = self._torch_feature_map(features.head_NF[: len(labels_B)])
        onehot_BC = (labels_B[:, None] == self._classes_C).astype(np.float32)
        targets_BC = torch.from_numpy(onehot_BC).to(features_BH.device)
        middle = len(labels_B) - int(_second_half(labels_B).sum())
        if middle == len(labels_B):
            return features_BH.sum() * 0.0
        halves = ((features_BH[:middle], targets_BC[:middle]), (features_BH[middle:], targets_BC[middle:]))
        return _held_out_loss(*halves[0], *halves[1]) + _held_out_loss(*halves[1], *halves[0])

    def groups(self) -> list[dict[str, Any]]:
        """None: the heads follow from the features."""
        return []


def _held_out_loss(fitted_MH: Tensor, fitted_MC: Tensor, held_MH: Tensor, held_MC: Tensor) -> Tensor:
    """Loss of the held-out rows under the ridge head of the fitted rows, which is solved in its dual form."""
    known_class_M = (held_MC @ fitted_MC.sum(dim=0) > 0).float()
    mean_H, share_C = fitted_MH.mean(dim=0), fitted_MC.mean(dim=0)
    centred_MH = fitted_MH - mean_H
    ridge_MM = torch.eye(len(fitted_MH), device=fitted_MH.device) * (_PENALTY * len(fitted_MH))
    dual_MC = torch.linalg.solve(centred_MH @ centred_MH.T + ridge_MM, fitted_MC - share_C)
    scores_MC = (held_MH - mean_H) @ (centred_MH.T @ dual_MC) + share_C
    losses_M = -(held_MC * nn.functional.log_softmax(scores_MC / _TEMPERATURE, dim=1)).sum(dim=1)
    return (losses_M * known_class_M).sum() / known_class_M.sum().clamp(min=1)


def _second_half(labels_B: np.ndarray) -> np.ndarray:
    """Every second row of each class, bool [B]."""
    second_B = np.zeros(len(labels_B), bool)
    for label in np.unique(labels_B):
        second_B[np.flatnonzero(labels_B == label)[1::2]] = True
    return second_B


def _shuffled(config: StateConfig, ids: Sequence[str], epoch: int) -> list[int]:
    return sorted(range(len(ids)), key=lambda row: draw(config.seed, "order", epoch, ids[row]))


def _in_batches(order: Sequence[int], size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(order), size):
        yield np.array(order[start : start + size])
