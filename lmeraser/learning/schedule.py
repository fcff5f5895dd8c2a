"""The learning-rate schedule that all trainings share."""

from __future__ import annotations

import math


def half_cosine(step: int, steps: int) -> float:
    """The share of the peak rate at a step: from 1 at step 0 down to 0 at ``steps``, half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))
