"""A replica finds the anchors that the state's own search finds, also where rounding decides.

Legend: N images, A anchors, R routing features.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmeraser.learning.anchors import AnchorIndex
from serving.nearest_anchor import NearestAnchor


class CountingIndex(AnchorIndex):
    def __init__(self, anchors_AR: np.ndarray) -> None:
        super().__init__(anchors_AR)
        self.rows = 0

    def nearest(self, routing_NR: np.ndarray) -> np.ndarray:
        self.rows += len(routing_NR)
        return super().nearest(routing_NR)


def drawn(seed: int, rows: int, width: int = 24, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (rows, width)).astype(np.float32)


def search(index: AnchorIndex, routing_NR: np.ndarray) -> np.ndarray:
    return NearestAnchor(index, torch.device("cpu"))(torch.from_numpy(routing_NR))


@pytest.mark.parametrize("images", [0, 1, 2, 7, 64, 65, 300])
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_the_anchors_are_those_of_the_states_search(images: int, shift: float) -> None:
    anchors_AR, routing_NR = drawn(0, 500, shift=shift), drawn(1, images, shift=shift)
    anchors_N = search(AnchorIndex(anchors_AR), routing_NR)
    assert anchors_N.dtype == np.int32
    assert anchors_N.tolist() == AnchorIndex(anchors_AR).nearest(routing_NR).tolist()


def test_a_search_decides_alone_unless_two_anchors_are_nearly_as_near() -> None:
    index = CountingIndex(drawn(0, 500))
    search(index, drawn(1, 300))
    assert index.rows < 3
    # Far from the origin, distances are differences of great numbers, and more of them are undecided.
    index = CountingIndex(drawn(0, 500, shift=3000.0))
    search(index, drawn(1, 300, shift=3000.0))
    assert index.rows > 100


def test_of_equal_anchors_the_one_with_the_lowest_id_is_found() -> None:
    anchors_AR = drawn(0, 40)[np.arange(200) % 40]
    anchors_AR = anchors_AR[np.random.default_rng(2).permutation(200)]
    routing_NR = drawn(1, 100)
    away_NA = ((routing_NR[:, None].astype(np.float64) - anchors_AR[None]) ** 2).sum(axis=2)
    index = CountingIndex(anchors_AR)
    assert search(index, routing_NR).tolist() == away_NA.argmin(axis=1).tolist()
    assert index.rows == 100


def test_between_anchors_that_differ_in_the_last_bit_the_states_search_decides() -> None:
    anchors_AR = drawn(0, 100, shift=10.0)
    anchors_AR = np.concatenate([anchors_AR, np.nextafter(anchors_AR, np.float32(100))])
    for seed in range(5):
        routing_NR = drawn(seed, 64, shift=10.0)
        assert (
            search(AnchorIndex(anchors_AR), routing_NR).tolist() == AnchorIndex(anchors_AR).nearest(routing_NR).tolist()
        )


def test_features_that_are_not_numbers_are_left_to_the_states_search() -> None:
    index = CountingIndex(drawn(0, 50))
    routing_NR = drawn(1, 4)
    routing_NR[2] = np.nan
    expected_N = AnchorIndex(drawn(0, 50)).nearest(routing_NR)
    assert search(index, routing_NR).tolist() == expected_N.tolist()
    assert index.rows == 1


def test_with_one_anchor_there_is_nothing_to_search() -> None:
    assert search(AnchorIndex(drawn(0, 1)), drawn(1, 3)).tolist() == [0, 0, 0]
