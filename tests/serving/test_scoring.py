"""A head scores on a device what it scores on the CPU.

Legend: N images, H head features, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
from small_system import DEVICE

from lmeraser.learning.heads import Head, Statistics, solve
from serving.scoring import DeviceHead, scoring

CPU = torch.device("cpu")


def solved(width: int, classes: int, empty_class: bool = False) -> tuple[Head, np.ndarray]:
    """A head, and features on the grid, int16 [N, H]."""
    generator = np.random.default_rng(width)
    labels_N = generator.integers(0, classes - empty_class, 400)
    features_NH = np.clip(generator.normal(0, 200, (400, width)) + 40 * labels_N[:, None], -2048, 2048).astype(np.int16)
    return solve(Statistics.of(features_NH, labels_N, classes)), features_NH


def test_on_the_cpu_scores_are_those_of_the_head_bit_for_bit() -> None:
    head, features_NH = solved(32, 5)
    for rows in (0, 1, 8, 400):
        scores_NC = scoring(head, CPU)(torch.from_numpy(features_NH[:rows]))
        assert scores_NC.tobytes() == head.scores(features_NH[:rows]).tobytes()


def test_on_a_device_only_the_order_of_the_sums_differs() -> None:
    head, features_NH = solved(700, 9, empty_class=True)
    on_device = DeviceHead(head, torch.device(DEVICE))
    scores_NC = on_device(torch.from_numpy(features_NH).to(DEVICE))
    expected_NC = head.scores(features_NH)
    assert scores_NC.dtype == np.float64
    # No row has the last class.
    assert np.isneginf(scores_NC[:, -1]).all() and np.isneginf(expected_NC[:, -1]).all()
    scores_NC, expected_NC = scores_NC[:, :-1], expected_NC[:, :-1]
    # Of H + 1 terms, each of which is at most as great as the sum of their magnitudes (Higham 2002, section 3.1).
    magnitude_NC = np.abs(features_NH / 256) @ np.abs(head.weight_HC[:, :-1]) + np.abs(head.bias_C[:-1])
    bound_NC = 2 * 702 * 2.0**-53 * magnitude_NC
    assert (np.abs(scores_NC - expected_NC) <= bound_NC).all()


def test_reduced_precision_of_the_passes_does_not_reach_the_scores() -> None:
    head, features_NH = solved(64, 4)
    features = torch.from_numpy(features_NH).to(DEVICE)
    plain_NC = DeviceHead(head, torch.device(DEVICE))(features)
    with torch.autocast(DEVICE, torch.bfloat16):
        assert np.array_equal(DeviceHead(head, torch.device(DEVICE))(features), plain_NC)
