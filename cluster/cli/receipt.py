"""``lmeraser receipt``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.cli.deletions import DeletionId, open_deletions
from cluster.cli.ids_file import IdsFile, SubjectsFile, check_given, read_ids
from cluster.cli.options import AsJson, KeyFolder, key_folder, read_file
from cluster.cli.output import emit, print_json, warn
from cluster.cli.target import DeletionTarget, with_options
from lmeraser.errors import ConfigError, ReceiptError
from lmeraser.proof.receipt_content import parse_receipt
from lmeraser.proof.receipts import covers, verify_receipt
from lmeraser.state.keys import load_hash_key, parse_public_pem, read_hash_key

group = typer.Typer(help="Show and verify signed statements that rows were erased.", no_args_is_help=True)


@group.command("show")
@with_options
def show(target: DeletionTarget, deletion_id: DeletionId) -> None:
    """Print a deletion's receipt as JSON, with or without --json.

    Example: lmeraser receipt show 4f0c… --store /data/gtsrb-store > receipt.json

    Example: lmeraser receipt show 4f0c… --url http://127.0.0.1:8000 > receipt.json
    """
    with open_deletions(target) as deletions:
        print_json(deletions.receipt(deletion_id).content)


@group.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="The receipt, a JSON file.")],
    public_key: Annotated[Path, typer.Option("--public-key", help="PEM file of the public signing key.")],
    store_id: Annotated[str | None, typer.Option("--store-id", help="The store that must have issued it.")] = None,
    identifier: Annotated[
        str | None, typer.Option("--id", help="Check this id; a file of ids stays out of the shell's history.")
    ] = None,
    ids_file: IdsFile = None,
    subjects_file: SubjectsFile = None,
    keys: KeyFolder = None,
    hash_key: Annotated[
        Path | None, typer.Option("--hash-key", help="File of the hash key.  [default: that of the key folder]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a receipt's signature, its proofs and its consistency; needs neither the store nor a network.

    Ids, which need the hash key, are also looked up among the erased ones; exit code 1 if one is not covered. One key
    folder may serve several stores: --store-id, which `lmeraser status` shows, accepts receipts of that store only.

    Example: lmeraser receipt verify receipt.json --public-key signing-key.pub.pem --ids-file gone.txt
    """
    samples, subjects = read_ids(ids_file, subjects_file)
    ids = [*check_given([identifier] if identifier is not None else None, "--id"), *samples, *subjects]
    if hash_key is not None and not ids:
        raise ConfigError("--hash-key is only used together with --id, --ids-file or --subjects-file")
    try:
        receipt = parse_receipt(read_file(file))
        summary = verify_receipt(receipt, parse_public_pem(read_file(public_key)))
    except ReceiptError as error:
        raise ReceiptError(f"{file}: {error}") from error
    if store_id is not None and summary.store != store_id:
        raise ReceiptError(f"{file} is a receipt of store {summary.store}, not of {store_id}")
    value: dict[str, Any] = {**asdict(summary), "valid": True}
    not_covered: list[str] = []
    if ids:
        key = read_hash_key(hash_key) if hash_key is not None else load_hash_key(key_folder(keys))
        not_covered = [each for each in ids if not covers(receipt, key, each)]
        value |= {"asked": len(ids), "covered": not not_covered}
    emit(value, as_json)
    if summary.covered == 0:
        warn("NOTHING WAS ERASED: the store held no row of the ids that this deletion named")
    elif summary.rows < summary.covered:
        warn(
            f"{summary.covered - summary.rows} of the rows were erased by an earlier deletion, and its receipt shows "
            "the change"
        )
    if not_covered:
        more = f" and {len(not_covered) - 1} more of the {len(ids)} ids" if len(not_covered) > 1 else ""
        raise ReceiptError(f"the receipt does not cover {not_covered[0]!r}{more}")
