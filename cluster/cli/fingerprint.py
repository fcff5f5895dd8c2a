"""``lmeraser fingerprint``."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.options import AsJson
from cluster.cli.output import emit
from lmeraser.state.fingerprint import fingerprint as numerics
from lmeraser.state.fingerprint import label_of


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(fingerprint)


def fingerprint(
    labels: Annotated[
        bool, typer.Option("--labels", help="Print labels for `ray start --labels`, which place work by fingerprint.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what of this machine can change a bit of a store's state: kernels of the processor, libraries, GPU.

    The labels are for nodes: ray start --address head:6379 --labels "$(lmeraser fingerprint --labels)"

    Example: lmeraser fingerprint --labels
    """
    from actors.remote.placement import GPU_NUMERICS_LABEL, NUMERICS_LABEL

    here, gpu = numerics(0), _gpu()
    if not labels:
        emit({**here, "accelerator": gpu}, as_json)
        return
    pairs = {NUMERICS_LABEL: label_of(here)}
    if gpu:
        pairs[GPU_NUMERICS_LABEL] = label_of(numerics(0, gpu))
    if as_json:
        emit(pairs, as_json)
    else:
        typer.echo(",".join(f"{name}={value}" for name, value in pairs.items()))


def _gpu() -> str:
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else ""
