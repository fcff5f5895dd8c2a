"""A store of digits on the local disk, and its copy in a bucket."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.lib.s3_server import S3Server
from benchmarks.lib.settings import DIGITS_CONFIG
from benchmarks.lib.synthetic_stores import DigitStore, digit_samples, fill, row_table, untrained_artifacts
from lmeraser.config import PartitionConfig, load_config
from lmeraser.data import open_source
from lmeraser.state.keys import init_keys
from lmeraser.state.public_artifacts import create_store
from lmeraser.store import LocalStore, open_store


def make_digit_store(
    folder: Path, rows: int, lease_s: float, max_cluster_rows: int = PartitionConfig().max_cluster_rows
) -> DigitStore:
    """A store of digits on the local disk with this lease, in clusters of at most so many rows."""
    config = load_config(DIGITS_CONFIG)
    state_config = config.state(open_source(config.private).labels)
    artifacts = untrained_artifacts(state_config, config)
    partition = replace(state_config.partition, max_cluster_rows=max_cluster_rows)
    create_store(LocalStore(folder / "store"), replace(state_config, partition=partition), artifacts, lease_s)
    init_keys(folder / "keys")
    return fill(folder, row_table(DigitStore(folder).pipeline, digit_samples(config, rows)))


def copy_to_bucket(digits: DigitStore, server: S3Server, *, versioned: bool = False) -> str:
    """The URI of a copy in a new bucket."""
    local, uri = LocalStore(digits.folder / "store"), server.uri(server.bucket(versioned=versioned))
    bucket = open_store(uri)
    for name in local.names():
        bucket.put(name, local.get(name))
    return uri
