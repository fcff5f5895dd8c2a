"""Accuracy on labelled rows, as a client of the service sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmeraser.client.client import Client
from lmeraser.client.responses import FailedImage
from lmeraser.config import Config
from lmeraser.data import declared_labels, open_source
from lmeraser.errors import ConfigError
from lmeraser.progress import Progress
from lmeraser.state.pipeline import chunks

_IMAGES_PER_REQUEST = 32


@dataclass(frozen=True)
class Accuracies:
    """Share of right answers over ``rows`` test rows, by λ; None is the service's own."""

    rows: int
    by_weight: dict[float | None, float]


def accuracies(client: Client, config: Config, weights: Sequence[float | None], report: Progress) -> Accuracies:
    """Predict all test rows once for each λ.

    Raises:
        ConfigError: when the configuration names no test rows.
        DataError: when they cannot be read.
        ServiceError: when the service refuses.
    """
    if config.test is None:
        raise ConfigError("the configuration names no `test:` source")
    labels = config.labels or declared_labels(config.private)
    samples = list(open_source(config.test, images=config.images).samples(labels))
    if not samples:
        raise ConfigError("the test source holds no rows")
    right = dict.fromkeys(weights, 0)
    done = 0
    for weight in weights:
        for chunk in chunks(samples, _IMAGES_PER_REQUEST):
            answers = client.predict([sample.image for sample in chunk], specialist_weight=weight)
            for sample, answer in zip(chunk, answers, strict=True):
                right[weight] += not isinstance(answer, FailedImage) and answer.label == labels[sample.label]
            done += len(chunk)
            report("test rows", done, len(samples) * len(weights))
    return Accuracies(len(samples), {weight: count / len(samples) for weight, count in right.items()})
