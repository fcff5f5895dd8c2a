"""``lmeraser receipt``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli.options import AsJson, ConfigFile, KeyFolder, S3Endpoint, StoreUri, find_store, key_folder, read_file
from cluster.cli.output import print_json, print_pairs
from lmeraser.errors import ConfigError, ObjectMissingError, ReceiptError
from lmeraser.keys import load_hash_key, parse_public_pem, read_hash_key
from lmeraser.manifest import load_manifest
from lmeraser.receipts import covers, verify_receipt

group = typer.Typer(help="Signed statements that rows were erased.", no_args_is_help=True)


@group.command("show")
def show(
    deletion_id: Annotated[str, typer.Argument(help="Id of the deletion.")],
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    as_json: AsJson = False,  # noqa: ARG001 - a receipt is JSON either way
) -> None:
    """Print a deletion's receipt as JSON.

    Example: lmeraser receipt show 4f0c… --store /data/gtsrb-store > receipt.json
    """
    target = find_store(store, s3_endpoint, config)
    load_manifest(target)
    try:
        print_json(json.loads(target.get(f"receipts/{deletion_id}.json")))
    except ObjectMissingError as error:
        raise ReceiptError(f"deletion {deletion_id} has no receipt: it is unknown, or not erased yet") from error


@group.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="The receipt, a JSON file.")],
    public_key: Annotated[Path, typer.Option("--public-key", help="PEM file of the public signing key.")],
    identifier: Annotated[str | None, typer.Option("--id", help="Say whether it covers this id.")] = None,
    keys: KeyFolder = None,
    hash_key: Annotated[
        Path | None, typer.Option("--hash-key", help="File of the hash key.  [default: that of the key folder]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a receipt's signature and proofs; needs neither the store nor a network.

    With --id, which needs the hash key, also say whether a sample or subject is among those erased.

    Example: lmeraser receipt verify receipt.json --public-key signing-key.pub.pem --id u42
    """
    if hash_key is not None and identifier is None:
        raise ConfigError("--hash-key is there to ask about an id: give --id too")
    receipt = _read_receipt(file)
    verify_receipt(receipt, parse_public_pem(read_file(public_key)))
    found: dict[str, Any] = {name: receipt.get(name) for name in ("deletion", "erased_at", "completed_at")}
    found["valid"] = True
    if identifier is not None:
        key = read_hash_key(hash_key) if hash_key is not None else load_hash_key(key_folder(keys))
        found["covered"] = covers(receipt, key, identifier)
    if as_json:
        print_json(found)
    else:
        print_pairs(found.items())
    if identifier is not None and not found["covered"]:
        raise ReceiptError(f"the receipt does not cover {identifier!r}")


def _read_receipt(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(read_file(file))
    except ValueError as error:
        raise ReceiptError(f"{file} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ReceiptError(f"{file} is not a receipt")
    return value
