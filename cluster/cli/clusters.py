"""``lmeraser clusters``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cluster.cli.options import AsJson, ConfigFile, S3Endpoint, StoreUri, find_store
from cluster.cli.output import print_json, print_pairs, print_rows
from lmeraser.commit import ClusterEntry, Commit
from lmeraser.errors import ConfigError
from lmeraser.log import Log
from lmeraser.manifest import Manifest, load_manifest
from lmeraser.store import Store

group = typer.Typer(help="The prompt clusters of the newest commit.", no_args_is_help=True)


@group.command("list")
def list_all(
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """All clusters, largest first.

    Example: lmeraser clusters list --store /data/gtsrb-store
    """
    manifest, commit = _read(find_store(store, s3_endpoint, config))
    found = [_shown(manifest, entry) for entry in sorted(commit.clusters, key=lambda entry: (-entry.rows, entry.key))]
    if as_json:
        print_json({"commit": commit.number, "clusters": found})
    else:
        print_rows(("key", "rows", "anchors", "state"), (list(cluster.values())[:4] for cluster in found))


@group.command("show")
def show(
    key: Annotated[str, typer.Argument(help="Key of the cluster.")],
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """One cluster.

    Example: lmeraser clusters show 3f2a90c1d2e4b6a8 --store /data/gtsrb-store
    """
    manifest, commit = _read(find_store(store, s3_endpoint, config))
    entry = commit.entry(key)
    if entry is None:
        raise ConfigError(f"commit {commit.number} has no cluster {key!r}; `lmeraser clusters list` names them")
    shown = {**_shown(manifest, entry), "bits": entry.bits, "rows_object": entry.rows_object}
    shown["specialist_object"] = entry.specialist_object
    if as_json:
        print_json(shown)
    else:
        print_pairs(shown.items())


def _read(store: Store) -> tuple[Manifest, Commit]:
    # Loads torch, which commands that compute nothing do without.
    from lmeraser.verify import newest_commit

    return load_manifest(store), newest_commit(Log(store))


def _shown(manifest: Manifest, entry: ClusterEntry) -> dict[str, Any]:
    state = entry.state(manifest.method.partition.min_tuned_rows)
    return {"key": entry.key, "rows": entry.rows, "anchors": len(entry.anchors), "state": state}
