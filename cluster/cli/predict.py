"""``lmeraser predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import ApiKeyFile, AsJson, ConfigFile, DataFolder, read_api_key, read_config
from cluster.cli.output import emit, print_rows, progress
from lmeraser.client.client import Client
from lmeraser.client.responses import FailedImage
from lmeraser.errors import ConfigError, DataError

_WEIGHTS = (None, 0.0, 0.25, 0.5, 0.75, 1.0)
_COLUMNS = ("image", "label", "probability", "cluster", "route")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(predict)


def predict(
    images: Annotated[list[Path] | None, typer.Argument(help="Image files.")] = None,
    url: Annotated[str, typer.Option(help="Address of the service.")] = "http://127.0.0.1:8000",
    api_key_file: ApiKeyFile = None,
    test: Annotated[bool, typer.Option("--test", help="Predict the test rows; report accuracy.")] = False,
    weights: Annotated[
        list[float] | None, typer.Option("--specialist-weight", help="λ to use instead of the service's.")
    ] = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Predict images through the service; the API key comes from LMERASER_API_KEY or --api-key-file.

    Example: lmeraser predict sign.png --url http://127.0.0.1:8000

    Example: lmeraser predict --test --config examples/gtsrb.yaml --data /data
    """
    if bool(images) == test:
        raise ConfigError("give either image files or --test")
    with Client(url, api_key=read_api_key(api_key_file)) as client:
        if test:
            _test(client, config, data, weights, as_json)
        else:
            _images(client, images or [], weights[0] if weights else None, as_json)


def _images(client: Client, images: list[Path], weight: float | None, as_json: bool) -> None:
    answers = client.predict(images, specialist_weight=weight)
    rows = (
        (image, f"failed: {answer.detail}", None, None, None)
        if isinstance(answer, FailedImage)
        else (image, answer.label, f"{max(answer.probabilities.values()):.3f}", answer.cluster, answer.route)
        for image, answer in zip(images, answers, strict=True)
    )
    emit({"predictions": [vars(answer) for answer in answers]}, as_json, lambda: print_rows(_COLUMNS, rows))
    if failed := sum(isinstance(answer, FailedImage) for answer in answers):
        raise DataError(f"{failed} image(s) could not be predicted")


def _test(client: Client, config: Path | None, data: str | None, weights: list[float] | None, as_json: bool) -> None:
    from cluster.evaluate import accuracies

    settings = read_config(config, data)
    if settings.test is None:
        raise ConfigError(f"{config} names no `test:` source")
    with progress() as report:
        result = accuracies(client, settings, weights or _WEIGHTS, report)
    by_weight = {"service" if weight is None else str(weight): value for weight, value in result.by_weight.items()}
    rows = ((weight, f"{value:.4f}") for weight, value in by_weight.items())
    emit(
        {"rows": result.rows, "accuracy": by_weight},
        as_json,
        lambda: print_rows(("specialist weight", "accuracy"), rows),
    )
