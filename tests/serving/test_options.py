"""When specialists are used, and what an operator may set for speed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from direct_service import Service
from small_system import System, picture

from lmeraser.client.responses import FailedImage, Prediction

SystemOf = Callable[..., System]
IMAGES = [picture(number) for number in range(300, 316)]


def answers(system: System, weight: float | None = 0.5, **serving: Any) -> list[Prediction]:
    answered = Service(system, **serving).client(lambda client: client.predict(IMAGES, specialist_weight=weight))
    return [answer for answer in answered if not isinstance(answer, FailedImage)]


@pytest.mark.slow
def test_without_a_weight_the_better_head_by_cross_validation_answers(system_of: SystemOf) -> None:
    gains, loses = system_of("token"), system_of("minute")
    default, weighted = answers(gains, weight=None), answers(gains, weight=1.0)
    assert [vars(answer) for answer in default] == [vars(answer) for answer in weighted]
    assert {answer.route for answer in default} >= {"specialist"}
    default, shared = answers(loses, weight=None), answers(loses, weight=0.0)
    assert [answer.probabilities for answer in default] == [answer.probabilities for answer in shared]
    pooled = answers(loses, weight=1.0)
    assert [answer.route == "skipped" for answer in default] == [answer.route == "specialist" for answer in pooled]
    assert [answer.probabilities for answer in default] != [answer.probabilities for answer in pooled]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"bf16": True}, {"compile": True}], ids=["bf16", "compile"])
def test_faster_arithmetic_gives_nearly_the_same_answers(system_of: SystemOf, options: dict[str, bool]) -> None:
    system = system_of()
    plain, fast = answers(system, temperature=1.0), answers(system, temperature=1.0, **options)
    # An image between two anchors may go to the other one.
    same = [index for index, answer in enumerate(plain) if fast[index].cluster == answer.cluster]
    assert len(same) >= 14
    for index in same:
        assert fast[index].probabilities == pytest.approx(plain[index].probabilities, abs=0.02)
