"""The attack's arithmetic, against distributions of which the answer is known.

Legend: W worlds, T targets.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from lmeraser.audit.attack import Gaussians, Strength, confidence, strength


def drawn(shift: float, worlds: int = 200, targets: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Confidences that are normal, higher by ``shift`` for members, around a level of each target's own."""
    generator = np.random.default_rng(1)
    member_WT = generator.permuted(np.tile(np.arange(worlds) % 2 == 0, (targets, 1)), axis=1).T
    level_T = generator.normal(0, 5, targets)
    return level_T + generator.normal(0, 1, (worlds, targets)) + shift * member_WT, member_WT


def attacked(shift: float) -> Strength:
    confidence_WT, member_WT = drawn(shift)
    fitted = Gaussians.fit(confidence_WT[:100], member_WT[:100])
    world_WT = np.broadcast_to(np.arange(100)[:, None], (100, 20))
    scores_WT = fitted.scores(confidence_WT[100:])
    return strength(scores_WT.ravel(), member_WT[100:].ravel(), world_WT.ravel(), seed=0)


def test_the_attack_is_as_strong_as_theory_says() -> None:
    found = attacked(2.0)
    # Two normals two deviations apart: AUC Φ(2/√2), TPR at FPR f Φ(2 + Φ⁻¹(f)).
    assert found.auc.low < norm.cdf(2 / np.sqrt(2)) < found.auc.high
    expected = norm.cdf(2 + norm.ppf(0.01))
    assert found.true_positives[0.01].low < expected < found.true_positives[0.01].high
    assert found.members + found.others == 2000


def test_if_membership_changes_nothing_the_attack_is_at_chance() -> None:
    found = attacked(0.0)
    assert found.auc.low < 0.5 < found.auc.high
    assert found.auc.high - found.auc.low < 0.12


def test_a_target_is_compared_with_itself_and_not_with_easier_ones() -> None:
    confidence_WT, member_WT = drawn(2.0)
    plain = strength(confidence_WT.ravel(), member_WT.ravel(), np.repeat(np.arange(200), 20), seed=0)
    assert attacked(2.0).auc.value > plain.auc.value + 0.2


def test_intervals_widen_when_scores_of_one_world_are_correlated() -> None:
    generator = np.random.default_rng(2)
    member_K = np.arange(400) % 2 == 0
    common_K = np.repeat(generator.normal(0, 3, 20), 20)
    scores_K = common_K + generator.normal(0, 1, 400)
    together = strength(scores_K, np.repeat(np.arange(20) % 2 == 0, 20), np.repeat(np.arange(20), 20), seed=0)
    apart = strength(scores_K, member_K, np.arange(400), seed=0)
    assert together.auc.high - together.auc.low > 2 * (apart.auc.high - apart.auc.low)


def test_the_curve_is_that_of_another_library_with_and_without_equal_scores() -> None:
    generator = np.random.default_rng(3)
    member_K = generator.random(300) < 0.4
    for scores_K in (generator.normal(member_K, 1), generator.integers(0, 5, 300) + member_K):
        found = strength(scores_K.astype(float), member_K, np.arange(300), seed=0)
        assert found.auc.value == pytest.approx(roc_auc_score(member_K, scores_K), abs=1e-12)
        threshold = np.quantile(scores_K[~member_K], 0.99, method="higher")
        assert found.true_positives[0.01].value >= (scores_K[member_K] > threshold).mean()


def test_confidence_is_the_logit_of_the_own_label_even_near_one() -> None:
    probabilities_NC = np.array([[0.7, 0.2, 0.1], [0.1, 0.9 - 1e-17, 1e-17], [1.0 - 1e-9, 5e-10, 5e-10]])
    found_N = confidence(probabilities_NC, np.array([0, 2, 0]))
    assert found_N[0] == pytest.approx(np.log(0.7 / 0.3))
    assert found_N[1] == pytest.approx(np.log(1e-12), abs=1e-6)
    assert found_N[2] == pytest.approx(np.log((1 - 1e-9) / 1e-9))
