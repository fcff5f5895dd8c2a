"""``lmeraser receipt``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli.ids_file import IdsFile, SubjectsFile, check_given, read_ids
from cluster.cli.options import AsJson, ConfigFile, KeyFolder, S3Endpoint, StoreUri, find_store, key_folder, read_file
from cluster.cli.output import print_json, print_pairs, warn
from lmeraser.errors import ConfigError, ObjectMissingError, ReceiptError
from lmeraser.proof.receipt_content import parse_receipt
from lmeraser.proof.receipts import covers, verify_receipt
from lmeraser.state.keys import load_hash_key, parse_public_pem, read_hash_key
from lmeraser.state.log import Log
from lmeraser.state.manifest import load_manifest
from lmeraser.store import Store

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
        print_json(json.loads(target.get(_name(target, deletion_id))))
    except ObjectMissingError as error:
        raise ReceiptError(f"the receipt of deletion {deletion_id} is gone: {error}") from error


def _name(target: Store, deletion_id: str) -> str:
    """The receipt that the log names last."""
    signed = [
        record
        for record in Log(target).advance()
        if record.kind in ("erased", "completed") and record.body["id"] == deletion_id
    ]
    if not signed:
        raise ReceiptError(f"deletion {deletion_id} has no receipt: it is unknown, or not erased yet")
    return str(signed[-1].body["receipt"])


@group.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="The receipt, a JSON file.")],
    public_key: Annotated[Path, typer.Option("--public-key", help="PEM file of the public signing key.")],
    store_id: Annotated[str | None, typer.Option("--store-id", help="The store that it must be of.")] = None,
    identifier: Annotated[
        str | None, typer.Option("--id", help="Say whether it covers this id; a file keeps it out of shell histories.")
    ] = None,
    ids_file: IdsFile = None,
    subjects_file: SubjectsFile = None,
    keys: KeyFolder = None,
    hash_key: Annotated[
        Path | None, typer.Option("--hash-key", help="File of the hash key.  [default: that of the key folder]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a receipt's signature, its proofs and that it does not contradict itself; needs neither store nor network.

    With ids, which need the hash key, also say whether they are among those erased; exit code 1 when one is not. One
    key folder may serve several stores: with --store-id, which `lmeraser status` shows, only receipts of that one hold.

    Example: lmeraser receipt verify receipt.json --public-key signing-key.pub.pem --ids-file gone.txt
    """
    samples, subjects = read_ids(ids_file, subjects_file)
    asked = [*check_given([identifier] if identifier is not None else None, "--id"), *samples, *subjects]
    if hash_key is not None and not asked:
        raise ConfigError("--hash-key is there to ask about ids: give --id, --ids-file or --subjects-file too")
    try:
        receipt = parse_receipt(read_file(file))
        told = verify_receipt(receipt, parse_public_pem(read_file(public_key)))
    except ReceiptError as error:
        raise ReceiptError(f"{file}: {error}") from error
    if store_id is not None and told.store != store_id:
        raise ReceiptError(f"{file} is a receipt of store {told.store}, not of {store_id}")
    found: dict[str, Any] = {**asdict(told), "valid": True}
    left: list[str] = []
    if asked:
        key = read_hash_key(hash_key) if hash_key is not None else load_hash_key(key_folder(keys))
        left = [one for one in asked if not covers(receipt, key, one)]
        found |= {"asked": len(asked), "covered": not left}
    if as_json:
        print_json(found)
    else:
        print_pairs(found.items())
    if told.covered == 0:
        warn("NOTHING WAS ERASED: the store held no row of what this deletion named")
    elif told.rows < told.covered:
        warn(f"{told.covered - told.rows} of the rows were erased by an earlier deletion: its receipt shows the change")
    if left:
        more = f" and {len(left) - 1} more of the {len(asked)} ids" if len(left) > 1 else ""
        raise ReceiptError(f"the receipt does not cover {left[0]!r}{more}")
