"""The closed-form heads: penalised discriminant analysis on exact sums (design 4.4).

Legend: N rows, H head features, C classes, G penalties of the grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lmeraser.learning.numerics import GRID, LIMIT

_EXACT = 2**53
_SUM_ROWS = 4096
# Penalties per row, relative to features of unit variance.
_PENALTIES_G = 10.0 ** np.arange(-6.0, 2.25, 0.25)


class LabelledFeatures(Protocol):
    """Rows that a head is solved on: a row table, or a specialist with its prompted features."""

    @property
    def features_NH(self) -> np.ndarray:  # noqa: N802 - as the fields are called
        """Features on the grid, int16."""

    @property
    def labels_N(self) -> np.ndarray:  # noqa: N802 - as the fields are called
        """Index into the declared labels, int64."""


@dataclass(frozen=True)
class Statistics:
    """Sums over rows. Features are in units of the grid, so every entry is an exact integer.

    Attributes:
        gram_HH: sum of products of two features.
        cross_HC: sum of features by class.
        sums_H: sum of features.
        counts_C: rows by class.
    """

    gram_HH: np.ndarray
    cross_HC: np.ndarray
    sums_H: np.ndarray
    counts_C: np.ndarray

    @staticmethod
    def zero(features: int, classes: int) -> Statistics:
        """The statistics of no rows."""
        shapes = ((features, features), (features, classes), (features,), (classes,))
        return Statistics(*(np.zeros(shape, np.float64) for shape in shapes))

    @staticmethod
    def of(features_NH: np.ndarray, labels_N: np.ndarray, classes: int) -> Statistics:
        """The statistics of rows with int16 features on the grid."""
        total = Statistics.zero(features_NH.shape[1], classes)
        for start in range(0, len(features_NH), _SUM_ROWS):
            part_NH = features_NH[start : start + _SUM_ROWS].astype(np.float64)
            onehot_NC = np.eye(classes)[labels_N[start : start + _SUM_ROWS]]
            total = total + Statistics(
                part_NH.T @ part_NH, part_NH.T @ onehot_NC, part_NH.sum(axis=0), onehot_NC.sum(axis=0)
            )
        return total

    @staticmethod
    def of_all(parts: Iterable[LabelledFeatures], like: Statistics) -> Statistics:
        """The sum over all rows of these parts; ``like`` has the same numbers of features and classes."""
        classes = len(like.counts_C)
        total = Statistics.zero(len(like.sums_H), classes)
        for part in parts:
            total = total + Statistics.of(part.features_NH, part.labels_N, classes)
        return total

    @property
    def rows(self) -> int:
        """How many rows were summed."""
        return int(self.counts_C.sum())

    def __add__(self, other: Statistics) -> Statistics:
        total = Statistics(
            self.gram_HH + other.gram_HH,
            self.cross_HC + other.cross_HC,
            self.sums_H + other.sums_H,
            self.counts_C + other.counts_C,
        )
        if total.rows * (GRID * LIMIT) ** 2 >= _EXACT:
            raise OverflowError(f"sums over {total.rows} rows are not exact in float64")
        return total

    def __sub__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.gram_HH - other.gram_HH,
            self.cross_HC - other.cross_HC,
            self.sums_H - other.sums_H,
            self.counts_C - other.counts_C,
        )

    def tensors(self, prefix: str) -> dict[str, np.ndarray]:
        """The sums by prefixed name."""
        return {f"{prefix}{name}": getattr(self, name) for name in ("gram_HH", "cross_HC", "sums_H", "counts_C")}

    @staticmethod
    def from_tensors(tensors: Mapping[str, np.ndarray], prefix: str) -> Statistics:
        """The inverse of :meth:`tensors`."""
        return Statistics(*(tensors[f"{prefix}{name}"] for name in ("gram_HH", "cross_HC", "sums_H", "counts_C")))


@dataclass(frozen=True)
class Head:
    """A linear head over features on the grid.

    Attributes:
        weight_HC: float64, per unit of the un-scaled feature.
        bias_C: float64.
        penalty: the ridge penalty per row that cross-validation chose.
        unexplained: the share of the targets' variance that is unexplained in cross-validation (:func:`solve`).
    """

    weight_HC: np.ndarray
    bias_C: np.ndarray
    penalty: float
    unexplained: float

    def scores(self, features_NH: np.ndarray) -> np.ndarray:
        """Scores [N, C] of int16 features: ``κ log p(class | row)`` up to a constant per row (:func:`solve`)."""
        scores_NC: np.ndarray = (features_NH.astype(np.float64) / GRID) @ self.weight_HC + self.bias_C
        return scores_NC

    def no_worse_than(self, other: Head) -> bool:
        """Whether no more is unexplained in cross-validation than with the other head (decisions 37 and 44)."""
        return self.unexplained <= other.unexplained


def solve(statistics: Statistics) -> Head:
    """Penalised discriminant analysis (Hastie, Buja and Tibshirani 1995): classes are normal around their means.

    With class means m, the mean of all rows μ, shares π and the covariance S within the classes, a row x scores
    ``κ ((x - μ - (m - μ) / 2)ᵀ (S + αI)⁻¹ (m - μ) + log π)`` for each class: minus infinity for a class without rows.
    The penalty α is that of ridge regression on one-hot targets, which has the same directions; it is chosen by
    generalised cross-validation (:func:`_cross_validated`), which also gives κ. Rows that were not seen are further
    from the mean of their class than those that S was computed from, by 1 / κ; so scores are smaller by κ. Everything
    follows from the sums alone. The share left unexplained is GCV(α) over the targets' variance. Without rows, all
    scores are zero and nothing is explained. Why discriminants and not ridge regression: decision 34.
    """
    if statistics.rows == 0:
        return Head(np.zeros_like(statistics.cross_HC), np.zeros_like(statistics.counts_C), 0.0, 1.0)
    centred = _centred(statistics)
    eigenbasis = _eigenbasis(centred)
    choice = _cross_validated(eigenbasis, centred)
    weight_HC, bias_C = _discriminant(centred, eigenbasis, choice)
    # With a single class the targets have no variance, and nothing is explained.
    unexplained = choice.gcv * centred.rows / centred.variance if centred.variance > 0 else 1.0
    return Head(weight_HC, bias_C, choice.penalty, unexplained)


def blend(
    shared_NC: np.ndarray,
    pooled_NC: np.ndarray,
    has_specialist_N: np.ndarray,
    specialist_weight: float,
    temperature: float,
) -> np.ndarray:
    """Probabilities [N, C]: ``(1 - λ) softmax(shared / τ) + λ softmax(pooled / τ)``; λ is 0 without a specialist."""
    weight_N1 = np.where(has_specialist_N, specialist_weight, 0.0)[:, None]
    shared_NC = (1 - weight_N1) * probabilities(shared_NC, temperature)
    mixed_NC: np.ndarray = shared_NC + weight_N1 * probabilities(pooled_NC, temperature)
    return mixed_NC


def probabilities(scores_NC: np.ndarray, temperature: float) -> np.ndarray:
    """``softmax(scores / τ)``, [N, C]."""
    scaled_NC = scores_NC / temperature
    shifted_NC = np.exp(scaled_NC - scaled_NC.max(axis=1, keepdims=True))
    shares_NC: np.ndarray = shifted_NC / shifted_NC.sum(axis=1, keepdims=True)
    return shares_NC


@dataclass(frozen=True)
class _Centred:
    """Moments about the mean of all rows, per unit of the un-scaled feature.

    Attributes:
        rows: how many rows.
        counts_C, share_C: rows by class, and as shares of all.
        mean_H: mean of the features, in units of the grid.
        gram_HH: sum of products of two features.
        cross_HC: sum of features by class.
        variance: sum of squares of the one-hot targets.
    """

    rows: int
    counts_C: np.ndarray
    share_C: np.ndarray
    mean_H: np.ndarray
    gram_HH: np.ndarray
    cross_HC: np.ndarray
    variance: float


@dataclass(frozen=True)
class _Eigenbasis:
    """Eigenvalues and eigenvectors of the centred Gram matrix, and the centred sums by class in that basis."""

    values_H: np.ndarray
    vectors_HH: np.ndarray
    cross_HC: np.ndarray


@dataclass(frozen=True)
class _Choice:
    """The penalty α that cross-validation chose, with its κ and its GCV."""

    penalty: float
    kappa: float
    gcv: float


def _centred(statistics: Statistics) -> _Centred:
    mean_H = statistics.sums_H / statistics.rows
    share_C = statistics.counts_C / statistics.rows
    return _Centred(
        rows=statistics.rows,
        counts_C=statistics.counts_C,
        share_C=share_C,
        mean_H=mean_H,
        gram_HH=(statistics.gram_HH - np.outer(statistics.sums_H, mean_H)) / GRID**2,
        cross_HC=(statistics.cross_HC - np.outer(statistics.sums_H, share_C)) / GRID,
        variance=float((statistics.counts_C * (1 - share_C)).sum()),
    )


def _eigenbasis(centred: _Centred) -> _Eigenbasis:
    values_H, vectors_HH = np.linalg.eigh(centred.gram_HH)
    return _Eigenbasis(np.maximum(values_H, 0.0), vectors_HH, vectors_HH.T @ centred.cross_HC)


def _cross_validated(eigenbasis: _Eigenbasis, centred: _Centred) -> _Choice:
    """The penalty of the grid with the least GCV, the largest among equals.

    Generalised cross-validation (Golub, Heath and Wahba 1979) of ridge regression on one-hot targets:
    ``GCV(α) = (RSS(α) / n) / κ`` with ``κ = (1 - (1 + Σ λ / (λ + nα)) / n)²`` over the eigenvalues λ.
    """
    rows, values_H = centred.rows, eigenbasis.values_H
    energy_H = (eigenbasis.cross_HC**2).sum(axis=1)
    shrunk_GH = values_H + (_PENALTIES_G * rows)[:, None]
    # RSS = |y|² - 2 wᵀXᵀy + wᵀXᵀXw, in the eigenbasis.
    fitted_G = (energy_H * (2 / shrunk_GH - values_H / shrunk_GH**2)).sum(axis=1)
    residual_G = np.maximum(centred.variance - fitted_G, 0.0)
    freedom_G = 1 + (values_H / shrunk_GH).sum(axis=1)
    remaining_G = 1 - freedom_G / rows
    kappa_G = np.maximum(remaining_G, 1e-12) ** 2
    gcv_G = np.where(remaining_G > 0, residual_G / rows / kappa_G, np.inf)
    best = len(gcv_G) - 1 - int(np.argmin(gcv_G[::-1]))
    return _Choice(float(_PENALTIES_G[best]), float(kappa_G[best]), float(gcv_G[best]))


def _discriminant(centred: _Centred, eigenbasis: _Eigenbasis, choice: _Choice) -> tuple[np.ndarray, np.ndarray]:
    """Weight [H, C] and bias [C] of the scores that :func:`solve` describes."""
    share_C = centred.share_C
    members_C = np.maximum(centred.counts_C, 1)
    apart_HC = centred.cross_HC / members_C
    shrunk_H = eigenbasis.values_H / centred.rows + choice.penalty
    ridge_HC = eigenbasis.vectors_HH @ (eigenbasis.cross_HC / members_C / shrunk_H[:, None])
    # The scatter between the classes is removed from the covariance by the matrix inversion lemma.
    within_CC = np.eye(len(share_C)) - share_C[:, None] * (apart_HC.T @ ridge_HC)
    # Contiguous, as when it is read from the store: products of other memory layouts differ in their last bits.
    weight_HC = np.ascontiguousarray(choice.kappa * np.linalg.solve(within_CC.T, ridge_HC.T).T)
    with np.errstate(divide="ignore"):
        prior_C = choice.kappa * np.log(share_C)
    middle_HC = centred.mean_H[:, None] / GRID + apart_HC / 2
    return weight_HC, prior_C - (middle_HC * weight_HC).sum(axis=0)
