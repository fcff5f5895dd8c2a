"""``lmeraser api-keys``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cluster.cli.options import AsJson, KeyFolder, key_folder
from cluster.cli.output import emit, print_pairs, print_rows
from serving.api_keys import ApiKey, create_api_key, read_api_keys, revoke_api_key

group = typer.Typer(help="Manage API keys of the HTTP service.", no_args_is_help=True)


@group.command("create")
def create(
    scopes: Annotated[
        list[str], typer.Option("--scope", help="predict, delete, approve, hold, read or admin; may be repeated.")
    ],
    name: Annotated[str, typer.Option(help="Whom or what the key is for.")] = "",
    keys: KeyFolder = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key for the HTTP service, and print it; it cannot be shown again.

    Example: lmeraser api-keys create --scope predict --scope delete --name "shop front"
    """
    key, secret = create_api_key(key_folder(keys), scopes, name)
    emit({**_summary(key), "key": secret}, as_json)


@group.command("list")
def list_all(keys: KeyFolder = None, as_json: AsJson = False) -> None:
    """List all API keys, oldest first, including revoked ones.

    Example: lmeraser api-keys list
    """
    summaries = [_summary(key) for key in read_api_keys(key_folder(keys))]
    rows = ({**summary, "scopes": ", ".join(summary["scopes"])}.values() for summary in summaries)
    columns = ("id", "name", "scopes", "created at", "revoked at")
    emit({"keys": summaries}, as_json, lambda: print_rows(columns, map(list, rows)))


@group.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key.")], keys: KeyFolder = None, as_json: AsJson = False
) -> None:
    """Revoke an API key; a running service refuses it from its next request on.

    Example: lmeraser api-keys revoke 3f2a90c1
    """
    key = _summary(revoke_api_key(key_folder(keys), key_id))
    emit(key, as_json, lambda: print_pairs((name, key[name]) for name in ("id", "name", "revoked_at")))


def _summary(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
