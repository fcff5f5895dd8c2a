"""When specialists are used, and what an operator may set for speed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from direct_service import Service
from small_system import System, picture

from lmeraser.client.responses import FailedImage, Prediction
from lmeraser.config import ServingConfig
from serving.predictor import Predictor, ScoreRequest
from serving.snapshot import load_snapshot

SystemOf = Callable[..., System]
IMAGES = [picture(number) for number in range(300, 316)]


def answers(system: System, weight: float | None = 0.5, **serving: Any) -> list[Prediction]:
    answered = Service(system, **serving).client(lambda client: client.predict(IMAGES, specialist_weight=weight))
    return [answer for answer in answered if not isinstance(answer, FailedImage)]


def test_a_confident_shared_head_skips_the_specialist(system_of: SystemOf) -> None:
    system = system_of()
    # A temperature at which no two images have the same confidence.
    confidence_N = [max(answer.probabilities.values()) for answer in answers(system, weight=0.0, temperature=50.0)]
    middle = float(np.median(confidence_N))
    plain, some, none = (answers(system, temperature=50.0, skip_above=above) for above in (None, middle, 1e-9))
    for blended, mixed, skipped, confidence in zip(plain, some, none, confidence_N, strict=True):
        assert skipped.route == ("skipped" if blended.route == "specialist" else "shared")
        expected = skipped if confidence > middle else blended
        assert mixed.route == expected.route
        assert mixed.probabilities == pytest.approx(expected.probabilities, abs=1e-4)
    assert {answer.route for answer in some} >= {"skipped", "specialist"}


@pytest.mark.slow
def test_without_a_weight_the_better_head_by_cross_validation_answers(system_of: SystemOf) -> None:
    gains, loses = system_of("token"), system_of("minute")
    default, weighted = answers(gains, weight=None), answers(gains, weight=0.75)
    assert [vars(answer) for answer in default] == [vars(answer) for answer in weighted]
    assert {answer.route for answer in default} >= {"specialist"}
    default, shared = answers(loses, weight=None), answers(loses, weight=0.0)
    assert [answer.probabilities for answer in default] == [answer.probabilities for answer in shared]
    pooled = answers(loses, weight=1.0)
    assert [answer.route == "skipped" for answer in default] == [answer.route == "specialist" for answer in pooled]
    assert [answer.probabilities for answer in default] != [answer.probabilities for answer in pooled]


def test_in_one_batch_only_requests_that_give_a_weight_use_worse_specialists(system_of: SystemOf) -> None:
    system = system_of("minute")
    pipeline, commit = system.pipeline(), system.newest()
    snapshot = load_snapshot(system.store, pipeline, commit, system.hash_key)
    images_N3PP = pipeline.decode(IMAGES)
    predictor = Predictor(pipeline, ServingConfig())
    scores = predictor.score(
        snapshot, [ScoreRequest(images_N3PP[:9]), ScoreRequest(images_N3PP[9:], with_specialists=True)]
    )
    has_specialist_N = predictor.score(snapshot, [ScoreRequest(images_N3PP, with_specialists=True)]).specialist_N
    assert has_specialist_N[:9].any() and has_specialist_N[9:].any()
    assert not scores.specialist_N[:9].any()
    assert np.array_equal(scores.specialist_N[9:], has_specialist_N[9:])
    assert np.array_equal(scores.skipped_N, has_specialist_N & ~scores.specialist_N)


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
