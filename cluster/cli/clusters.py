"""``lmeraser clusters``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cluster.cli.options import AsJson, ConfigFile, S3Endpoint, StoreUri, find_store
from cluster.cli.output import leave_stdout_to_results, print_json, print_pairs, print_rows
from lmeraser.errors import ConfigError
from lmeraser.state.commit import ClusterEntry, Commit
from lmeraser.state.log import Log
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.store import Store

group = typer.Typer(help="The prompt clusters of the newest commit.", no_args_is_help=True)


@group.command("list")
def list_all(
    store: StoreUri = "",
    s3_endpoint: S3Endpoint = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """All clusters, largest first; where a coordinator runs, with what their owners do, and where.

    Example: lmeraser clusters list --store /data/gtsrb-store
    """
    target = find_store(store, s3_endpoint, config)
    manifest, commit = _read(target)
    leave_stdout_to_results()
    owners = _owners(manifest, commit, target.uri)
    found = [
        {**_shown(manifest, entry), **owners.get(entry.key, {})}
        for entry in sorted(commit.clusters, key=lambda entry: (-entry.rows, entry.key))
    ]
    if as_json:
        print_json({"commit": commit.number, "clusters": found})
    else:
        columns = ("key", "rows", "anchors", "state", "owner", "node", "device")
        print_rows(columns, ([cluster.get(column) for column in columns] for cluster in found))


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


def _owners(manifest: Manifest, commit: Commit, store_uri: str) -> dict[str, dict[str, Any]]:
    """What the running coordinator says of the owners, by cluster key; nothing where none runs."""
    import ray

    from cluster.runtime import connected_coordinator

    with connected_coordinator(manifest.store_id, store_uri) as coordinator:
        if coordinator is None:
            return {}
        status, places = ray.get([coordinator.status.remote(), coordinator.owner_places.remote()])
        addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    found: dict[str, dict[str, Any]] = {}
    for entry in commit.clusters:
        place = places.get(entry.key)
        device = None if place is None else ", ".join(f"GPU {number}" for number in place.gpus) or "CPU"
        found[entry.key] = {
            "owner": "passive" if place is None else "resident",
            "node": None if place is None else addresses.get(place.node_id),
            "node_id": None if place is None else place.node_id,
            "device": device,
        }
        if entry.key in status["running"] or entry.key in status["failed"]:
            found[entry.key]["state"] = "tuning" if entry.key in status["running"] else "failed"
    return found


def _read(store: Store) -> tuple[Manifest, Commit]:
    # Loads torch, which commands that compute nothing do without.
    from lmeraser.proof.verify import current_commit

    return load_manifest(store), current_commit(Log(store))


def _shown(manifest: Manifest, entry: ClusterEntry) -> dict[str, Any]:
    state = entry.state(manifest.config.tunes)
    return {"key": entry.key, "rows": entry.rows, "anchors": len(entry.anchors), "state": state}
