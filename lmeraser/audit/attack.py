"""The likelihood-ratio attack on membership, and its strength.

LiRA: Carlini et al. 2022, arXiv 2112.03570, with its logit-scaled confidence. Against unlearning (U-LiRA: Hayes et al.
2024, arXiv 2403.01218) the two hypotheses are "was a member and was deleted" and "never was a member".

Legend: W worlds, T targets, K scores, R resamples, N rows, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

RATES = (0.001, 0.01)
RESAMPLES = 1000
_EDGES = (0.025, 0.975)
_TINY = 1e-12


def confidence(probabilities_NC: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """``log(p / (1 - p))`` of each row's own label, float64 [N]; ``1 - p`` is summed from the other labels."""
    own_N = np.take_along_axis(probabilities_NC, labels_N[:, None], axis=1)[:, 0]
    others_NC = probabilities_NC.copy()
    np.put_along_axis(others_NC, labels_N[:, None], 0.0, axis=1)
    logit_N: np.ndarray = np.log(np.maximum(own_N, _TINY)) - np.log(np.maximum(others_NC.sum(axis=1), _TINY))
    return logit_N


@dataclass(frozen=True)
class Gaussians:
    """Each target's confidence where it was a member and where it was not.

    Attributes:
        inside_T, outside_T: means.
        inside_deviation, outside_deviation: shared by all targets, as Carlini et al. do with few shadow models.
    """

    inside_T: np.ndarray
    outside_T: np.ndarray
    inside_deviation: float
    outside_deviation: float

    @staticmethod
    def fit(confidence_WT: np.ndarray, member_WT: np.ndarray) -> Gaussians:
        """Fit on worlds; in each of them every target is a member or is not."""
        inside_T, inside = _moments(confidence_WT, member_WT)
        outside_T, outside = _moments(confidence_WT, ~member_WT)
        return Gaussians(inside_T, outside_T, inside, outside)

    def scores(self, confidence_WT: np.ndarray) -> np.ndarray:
        """Log likelihood ratios, one per confidence; the higher, the more like a member."""
        inside_WT = _log_density((confidence_WT - self.inside_T) / self.inside_deviation, self.inside_deviation)
        outside_WT = _log_density((confidence_WT - self.outside_T) / self.outside_deviation, self.outside_deviation)
        ratio_WT: np.ndarray = inside_WT - outside_WT
        return ratio_WT


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Strength:
    """How well scores tell members from others.

    Attributes:
        auc: area under the ROC curve; 0.5 is chance.
        true_positives: share of members that are recognised, by the allowed false positive rate.
        members, others: how many scores of each kind.
        curve: false and true positive rates, at every threshold.
    """

    auc: Estimate
    true_positives: Mapping[float, Estimate]
    members: int
    others: int
    curve: tuple[np.ndarray, np.ndarray]


def strength(scores_K: np.ndarray, member_K: np.ndarray, world_K: np.ndarray, seed: int) -> Strength:
    """AUC and true positive rates, with intervals by the percentile bootstrap over worlds.

    Scores of one world come from one model and depend on each other, so worlds are resampled, not scores.

    Args:
        scores_K: log likelihood ratios.
        member_K: whether the target was a member.
        world_K: the world that each score comes from.
        seed: of the resampling.
    """
    names, index_K = np.unique(world_K, return_inverse=True)
    drawn_RW = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    # The first "resample" is the sample itself.
    weights_RK = np.concatenate([np.ones((1, len(names)), np.int64), drawn_RW])[:, index_K]
    false_RK, true_RK = _curves(scores_K, member_K, weights_RK)
    figures_R = [np.trapezoid(true_RK, false_RK, axis=1)]
    figures_R += [np.where(false_RK <= rate, true_RK, 0.0).max(axis=1) for rate in RATES]
    area, *rates = (
        Estimate(float(value_R[0]), *map(float, np.quantile(value_R[1:], _EDGES, axis=0))) for value_R in figures_R
    )
    return Strength(
        auc=area,
        true_positives=dict(zip(RATES, rates, strict=True)),
        members=int(member_K.sum()),
        others=int((~member_K).sum()),
        curve=(false_RK[0], true_RK[0]),
    )


def _curves(scores_K: np.ndarray, member_K: np.ndarray, weights_RK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates from accepting no score to accepting all; one curve per row of weights."""
    order_K = np.argsort(-scores_K, kind="stable")
    ordered_K, member_K, weights_RK = scores_K[order_K], member_K[order_K], weights_RK[:, order_K]
    # Equal scores are accepted together.
    ends = np.append(np.flatnonzero(np.diff(ordered_K)), len(ordered_K) - 1)

    def rates(chosen_K: np.ndarray) -> np.ndarray:
        counts_RK = np.cumsum(weights_RK * chosen_K, axis=1)
        counts_RK = np.concatenate([np.zeros((len(counts_RK), 1)), counts_RK[:, ends]], axis=1)
        shares_RK: np.ndarray = counts_RK / np.maximum(counts_RK[:, -1:], 1)
        return shares_RK

    return rates(~member_K), rates(member_K)


def _moments(confidence_WT: np.ndarray, chosen_WT: np.ndarray) -> tuple[np.ndarray, float]:
    """The mean of each target over the chosen worlds, and the deviation from it over all targets."""
    count_T = chosen_WT.sum(axis=0)
    mean_T = np.where(chosen_WT, confidence_WT, 0.0).sum(axis=0) / count_T
    squares = float((np.where(chosen_WT, confidence_WT - mean_T, 0.0) ** 2).sum())
    freedom = max(int(count_T.sum()) - len(count_T), 1)
    return mean_T, max(float(np.sqrt(squares / freedom)), _TINY)


def _log_density(standard_WT: np.ndarray, deviation: float) -> np.ndarray:
    density_WT: np.ndarray = -0.5 * standard_WT**2 - np.log(deviation)
    return density_WT
