"""Accuracy on labelled rows, as a client of the service sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmeraser.client.calls import IMAGES_PER_REQUEST
from lmeraser.client.client import Client
from lmeraser.client.responses import FailedImage
from lmeraser.config import Config
from lmeraser.data import declared_labels, open_source
from lmeraser.errors import ConfigError
from lmeraser.progress import Progress
from lmeraser.state.pipeline import chunks


@dataclass(frozen=True)
class Accuracies:
    """The share of correct predictions.

    Attributes:
        rows: how many test rows were predicted.
        by_weight: the share by λ, the weight of the specialist; None stands for the service's own λ.
    """

    rows: int
    by_weight: dict[float | None, float]


def accuracies(client: Client, config: Config, weights: Sequence[float | None], report: Progress) -> Accuracies:
    """Predict all test rows once per λ.

    Args:
        client: of the service.
        config: names the test rows, and the labels.
        weights: the values of λ; None for the service's own.
        report: called with what is being done, how much of it is done, and how much there is.

    Raises:
        ConfigError: when the configuration names no test rows.
        DataError: when they cannot be read.
        ServiceError: when the service refuses a request.
    """
    if config.test is None:
        raise ConfigError("the configuration names no `test:` source")
    labels = config.labels or declared_labels(config.private)
    samples = list(open_source(config.test, images=config.images).samples(labels))
    if not samples:
        raise ConfigError("the test source holds no rows")
    correct = dict.fromkeys(weights, 0)
    done = 0
    for weight in weights:
        for chunk in chunks(samples, IMAGES_PER_REQUEST):
            answers = client.predict([sample.image for sample in chunk], specialist_weight=weight)
            for sample, answer in zip(chunk, answers, strict=True):
                correct[weight] += not isinstance(answer, FailedImage) and answer.label == labels[sample.label]
            done += len(chunk)
            report("test rows", done, len(samples) * len(weights))
    return Accuracies(len(samples), {weight: count / len(samples) for weight, count in correct.items()})
