"""What an operator may set for speed: the second pass left out, and faster arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from direct_service import Service
from small_system import System, picture

from lmeraser.client import FailedImage, Prediction

SystemOf = Callable[..., System]
IMAGES = [picture(number) for number in range(300, 316)]


def answers(system: System, weight: float = 0.5, **serving: Any) -> list[Prediction]:
    found = Service(system, **serving).client(lambda client: client.predict(IMAGES, specialist_weight=weight))
    return [answer for answer in found if not isinstance(answer, FailedImage)]


def test_a_sure_shared_head_skips_the_specialist(system_of: SystemOf) -> None:
    system = system_of()
    # Warm enough that no two images are sure alike.
    sure_N = [max(answer.probabilities.values()) for answer in answers(system, weight=0.0, temperature=50.0)]
    middle = float(np.median(sure_N))
    plain, some, none = (answers(system, temperature=50.0, skip_above=above) for above in (None, middle, 1e-9))
    for one, other, skipped, sure in zip(plain, some, none, sure_N, strict=True):
        assert skipped.route == ("skipped" if one.route == "specialist" else "shared")
        expected = skipped if sure > middle else one
        assert other.route == expected.route
        assert other.probabilities == pytest.approx(expected.probabilities, abs=1e-4)
    assert {answer.route for answer in some} >= {"skipped", "specialist"}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"bf16": True}, {"compile": True}], ids=["bf16", "compile"])
def test_faster_arithmetic_gives_nearly_the_same_answers(system_of: SystemOf, options: dict[str, bool]) -> None:
    system = system_of()
    plain, fast = answers(system, temperature=1.0), answers(system, temperature=1.0, **options)
    # An image that lies between two anchors may go to the other one.
    same = [place for place, answer in enumerate(plain) if fast[place].cluster == answer.cluster]
    assert len(same) >= 14
    for place in same:
        assert fast[place].probabilities == pytest.approx(plain[place].probabilities, abs=0.02)
