"""``lmeraser api-keys``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cluster.cli.options import AsJson, KeyFolder, key_folder
from cluster.cli.output import print_json, print_pairs, print_rows
from serving.api_keys import ApiKey, create_api_key, read_api_keys, revoke_api_key

group = typer.Typer(help="API keys for the HTTP service.", no_args_is_help=True)


@group.command("create")
def create(
    scopes: Annotated[list[str], typer.Option("--scope", help="predict, delete or admin; may come several times.")],
    name: Annotated[str, typer.Option(help="Whom or what the key is for.")] = "",
    keys: KeyFolder = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key for the HTTP service and print it, this once.

    Example: lmeraser api-keys create --scope predict --scope delete --name "shop front"
    """
    key, secret = create_api_key(key_folder(keys), scopes, name)
    made = {**_shown(key), "key": secret}
    if as_json:
        print_json(made)
    else:
        print_pairs((name, ", ".join(value) if isinstance(value, list) else value) for name, value in made.items())


@group.command("list")
def list_all(keys: KeyFolder = None, as_json: AsJson = False) -> None:
    """All API keys, revoked ones too, oldest first.

    Example: lmeraser api-keys list
    """
    found = [_shown(key) for key in read_api_keys(key_folder(keys))]
    if as_json:
        print_json({"keys": found})
    else:
        rows = ({**key, "scopes": ", ".join(key["scopes"])} for key in found)
        print_rows(("id", "name", "scopes", "created at", "revoked at"), (list(row.values()) for row in rows))


@group.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key.")], keys: KeyFolder = None, as_json: AsJson = False
) -> None:
    """Make an API key invalid; a running service refuses it from its next request on.

    Example: lmeraser api-keys revoke 3f2a90c1
    """
    revoked = _shown(revoke_api_key(key_folder(keys), key_id))
    if as_json:
        print_json(revoked)
    else:
        print_pairs((name, revoked[name]) for name in ("id", "name", "revoked_at"))


def _shown(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
