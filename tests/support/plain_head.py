"""The heads a second time, row by row in plain NumPy: the reference for the heads that are solved from sums.

Legend: N rows, M rows that are asked about, H head features, D features and the intercept, C classes.
"""

from __future__ import annotations

import numpy as np

GRID = 256


def hat_matrix(features_NH: np.ndarray, penalty: float) -> np.ndarray:
    """What takes targets to the ridge's fitted values, [N, N]; the intercept has no penalty."""
    design_ND = np.column_stack([features_NH / GRID, np.ones(len(features_NH))])
    ridge_D = np.full(design_ND.shape[1], penalty * len(design_ND))
    ridge_D[-1] = 0
    return np.asarray(design_ND @ np.linalg.solve(design_ND.T @ design_ND + np.diag(ridge_D), design_ND.T))


def kappa(hat_NN: np.ndarray) -> float:
    """Square of the share of the rows that a ridge head leaves free."""
    return float((1 - np.trace(hat_NN) / len(hat_NN)) ** 2)


def log_odds(
    asked_MH: np.ndarray, features_NH: np.ndarray, labels_N: np.ndarray, classes: int, penalty: float
) -> np.ndarray:
    """``κ (log p(class | row) - log p(class 0 | row))``, [M, C], where a class is normal about its mean."""
    rows_NH, asked_MH = features_NH / GRID, asked_MH / GRID
    means_CH = np.stack([rows_NH[labels_N == label].mean(axis=0) for label in range(classes)])
    within_NH = rows_NH - means_CH[labels_N]
    inverse_HH = np.linalg.inv(within_NH.T @ within_NH / len(rows_NH) + penalty * np.eye(rows_NH.shape[1]))
    away_MCH = asked_MH[:, None] - means_CH
    density_MC = -0.5 * np.einsum("mch,hk,mck->mc", away_MCH, inverse_HH, away_MCH)
    joint_MC = density_MC + np.log(np.bincount(labels_N, minlength=classes) / len(labels_N))
    return np.asarray(kappa(hat_matrix(features_NH, penalty)) * (joint_MC - joint_MC[:, :1]))
