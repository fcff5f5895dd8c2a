"""``lmeraser clusters``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from cluster.cli.options import Limit, NextCursor
from cluster.cli.output import emit, leave_stdout_to_results, print_page, print_pairs
from cluster.cli.target import Target, with_options
from lmeraser.errors import ConfigError
from lmeraser.paging import DEFAULT_LIMIT
from lmeraser.state.cluster_entry import ClusterEntry
from lmeraser.state.cluster_pages import cluster_page
from lmeraser.state.commit import Commit
from lmeraser.state.manifest import Manifest, load_manifest
from lmeraser.store import Store

group = typer.Typer(help="Show the prompt clusters of the newest commit.", no_args_is_help=True)
_COLUMNS = ("key", "rows", "anchors", "state", "owner", "node", "device")


@group.command("list")
@with_options
def list_page(target: Target, limit: Limit = DEFAULT_LIMIT, cursor: NextCursor = None) -> None:
    """List prompt clusters, largest first, one page at a time; with their owners while a coordinator runs.

    A cluster that gains or loses rows meanwhile may be left out or come twice.

    Example: lmeraser clusters list --store /data/gtsrb-store
    """
    store = target.open_store()
    manifest, commit = _read(store)
    page = cluster_page(commit.clusters, limit, cursor)
    leave_stdout_to_results()
    owners = _owners(manifest, page.items, store.uri)
    clusters = [{**_summary(manifest, entry), **owners.get(entry.key, {})} for entry in page.items]
    emit(
        {"commit": commit.number, "clusters": clusters, "next_cursor": page.next_cursor},
        target.as_json,
        lambda: print_page(_COLUMNS, ([cluster.get(name) for name in _COLUMNS] for cluster in clusters), page),
    )


@group.command("show")
@with_options
def show(target: Target, key: Annotated[str, typer.Argument(help="Key of the cluster.")]) -> None:
    """Show one prompt cluster.

    Example: lmeraser clusters show 3f2a90c1d2e4b6a8 --store /data/gtsrb-store
    """
    manifest, commit = _read(target.open_store())
    entry = commit.entry(key)
    if entry is None:
        raise ConfigError(f"commit {commit.number} has no cluster {key!r}; `lmeraser clusters list` names them")
    segments = [{"rows": segment.rows, "objects": list(segment.objects())} for segment in entry.segments]
    cluster = {**_summary(manifest, entry), "bits": entry.bits, "prompt_object": entry.prompt_object}

    shown = {**cluster, **{f"segment {number}": each["objects"] for number, each in enumerate(segments, 1)}}
    emit({**cluster, "segments": segments}, target.as_json, lambda: print_pairs(shown.items()))


def _owners(manifest: Manifest, clusters: Iterable[ClusterEntry], store_uri: str) -> dict[str, dict[str, Any]]:
    """What the running coordinator says about these clusters' owners, by key; nothing where none runs."""
    import ray

    from cluster.runtime import connected_coordinator

    with connected_coordinator(manifest.store_id, store_uri) as coordinator:
        if coordinator is None:
            return {}
        status, locations = ray.get([coordinator.status.remote(), coordinator.owner_locations.remote()])
        addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    owners: dict[str, dict[str, Any]] = {}
    for entry in clusters:
        location = locations.get(entry.key)
        device = None if location is None else ", ".join(f"GPU {number}" for number in location.gpus) or "CPU"
        owners[entry.key] = {
            "owner": "passive" if location is None else "resident",
            "node": None if location is None else addresses.get(location.node_id),
            "node_id": None if location is None else location.node_id,
            "device": device,
        }
        if entry.key in status.running or entry.key in status.failed:
            owners[entry.key]["state"] = "tuning" if entry.key in status.running else "failed"
    return owners


def _read(store: Store) -> tuple[Manifest, Commit]:
    # Loads torch, which commands that compute nothing do without.
    from lmeraser.proof.verify import current_commit

    return load_manifest(store), current_commit(store)


def _summary(manifest: Manifest, entry: ClusterEntry) -> dict[str, Any]:
    state = entry.state(manifest.config.tunes)
    return {"key": entry.key, "rows": entry.rows, "anchors": len(entry.anchors), "state": state}
