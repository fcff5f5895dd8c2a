"""``lmeraser predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import AsJson, ConfigFile, DataFolder, read_config
from cluster.cli.output import print_json, print_rows, progress
from lmeraser.client.client import Client
from lmeraser.client.responses import FailedImage
from lmeraser.errors import ConfigError, DataError

_WEIGHTS = (None, 0.0, 0.25, 0.5, 0.75, 1.0)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(
    images: Annotated[list[Path] | None, typer.Argument(help="Image files.")] = None,
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://127.0.0.1:8000",
    test: Annotated[bool, typer.Option("--test", help="Predict the test rows; report accuracy.")] = False,
    weights: Annotated[
        list[float] | None, typer.Option("--specialist-weight", help="λ to use instead of the service's.")
    ] = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Predict images through the service; an API key is taken from LMERASER_API_KEY.

    Example: lmeraser predict sign.png --url http://127.0.0.1:8000

    Example: lmeraser predict --test --config examples/gtsrb.yaml --data /data
    """
    if bool(images) == test:
        raise ConfigError("give either image files or --test")
    with Client(url) as client:
        if test:
            _test(client, config, data, weights, as_json)
        else:
            _images(client, images or [], weights[0] if weights else None, as_json)


def _images(client: Client, images: list[Path], weight: float | None, as_json: bool) -> None:
    answers = client.predict(images, specialist_weight=weight)
    if as_json:
        print_json({"predictions": [vars(answer) for answer in answers]})
    else:
        rows = (
            (image, f"failed: {answer.detail}", None, None, None)
            if isinstance(answer, FailedImage)
            else (image, answer.label, f"{max(answer.probabilities.values()):.3f}", answer.cluster, answer.route)
            for image, answer in zip(images, answers, strict=True)
        )
        print_rows(("image", "label", "probability", "cluster", "route"), rows)
    if any(isinstance(answer, FailedImage) for answer in answers):
        raise DataError(f"{sum(isinstance(answer, FailedImage) for answer in answers)} image(s) could not be predicted")


def _test(client: Client, config: Path | None, data: str | None, weights: list[float] | None, as_json: bool) -> None:
    from cluster.evaluate import accuracies

    settings = read_config(config, data)
    if settings.test is None:
        raise ConfigError(f"{config} names no `test:` source")
    with progress() as report:
        found = accuracies(client, settings, weights or _WEIGHTS, report)
    by_weight = {"service" if w is None else str(w): value for w, value in found.by_weight.items()}
    if as_json:
        print_json({"rows": found.rows, "accuracy": by_weight})
    else:
        print_rows(("specialist weight", "accuracy"), ((w, f"{value:.4f}") for w, value in by_weight.items()))
