"""The learning-rate schedule."""

from __future__ import annotations

import pytest

from lmeraser.learning.schedule import half_cosine


def test_a_half_cosine_falls_from_one_to_zero_and_is_one_half_in_the_middle() -> None:
    assert [half_cosine(step, 4) for step in (0, 2, 4)] == pytest.approx([1.0, 0.5, 0.0])
    shares = [half_cosine(step, 9) for step in range(10)]
    assert shares == sorted(shares, reverse=True)
