"""``lmeraser keys``."""

from __future__ import annotations

import typer

from cluster.cli.options import AsJson, KeyFolder, key_folder
from cluster.cli.output import emit
from lmeraser.state.keys import init_keys

group = typer.Typer(help="Make the hash key and the signing key.", no_args_is_help=True)


@group.callback()
def _group() -> None:
    """Make the hash key and the signing key."""


@group.command("init")
def init(keys: KeyFolder = None, as_json: AsJson = False) -> None:
    """Make the hash key and the signing key in the key folder.

    Example: lmeraser keys init --keys /etc/lmeraser/keys
    """
    folder = key_folder(keys)
    init_keys(folder)
    emit(
        {
            "hash_key": str(folder / "hash.key"),
            "signing_key": str(folder / "signing-key.pem"),
            "public_key": str(folder / "signing-key.pub.pem"),
        },
        as_json,
    )
