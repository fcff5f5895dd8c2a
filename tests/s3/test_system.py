"""The system on a bucket as its user runs it: Ray actors, Ray Serve over HTTP, the command line, Ray Train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import Run
from small_system import LABELS, System, finish, picture, samples
from until import until

from actors.remote.names import NAMESPACE
from actors.remote.placement import StoreRef
from benchmarks.lib.s3_server import S3Server
from cluster.cli.options import read_config
from cluster.pretrain import pretrain
from cluster.runtime import coordinator_of, free_port
from cluster.service import start_service, stop_service
from lmeraser.client.client import Client
from lmeraser.config import BackboneConfig, Config, PretrainConfig, ServingConfig, SourceConfig
from lmeraser.data import located, open_source
from lmeraser.errors import ConfigError, DataError
from lmeraser.proof.verify import verify
from lmeraser.state.keys import load_signing_key, public_pem
from lmeraser.state.tensors import tensors_from_bytes
from lmeraser.store import Store, open_store

SystemOf = Callable[..., System]
in_a_bucket = pytest.mark.parametrize("medium", ["s3 versioned"])


@in_a_bucket
@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_store_in_a_bucket_is_served_deleted_from_and_verified(system_of: SystemOf) -> None:
    import ray

    system = system_of("minute", 24)
    coordinator_of(StoreRef(system.store.uri, str(system.keys)), system.manifest)
    url = start_service(system.store, system.keys, ServingConfig(), "127.0.0.1", free_port())
    try:
        with Client(url) as client:
            client.predict([picture(300)])
            deletion = client.delete(sample_ids=["s3"])
            assert client.wait(deletion.id, timeout_s=200).status == "completed"
            # A commit that erases nothing is loaded in the background.
            until(lambda: client.predict(picture(301)).commit == system.newest().number or None, 30)
            client.receipt(deletion.id).verify(public_pem(load_signing_key(system.keys).public_key()))
    finally:
        stop_service()
        for name in [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]:
            if system.manifest.store_id in name:
                ray.kill(ray.get_actor(name, namespace=NAMESPACE))
    assert verify(system.store, system.hash_key).equal
    assert system.newest().root == system.fresh_root([row for row in samples(0, 24) if row.sample_id != "s3"])
    content = b"".join(data for _, data in system.store.kept() if data is not None)
    assert picture(3) not in content
    assert picture(4) in content


@in_a_bucket
@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.*")
def test_a_backbone_is_trained_with_its_checkpoints_in_the_bucket(
    new_store: Callable[[str], Store], tmp_path: Path
) -> None:
    for number in range(24):
        file = tmp_path / LABELS[number % 3] / f"p{number}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(picture(number))
    model = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    config = Config(
        backbone=BackboneConfig("vit_tiny_patch16_224", "trained", 16, model),
        public=SourceConfig("image_folder", str(tmp_path)),
        pretrain=PretrainConfig(epochs=2, batch_rows=4, workers=1),
    )
    store = new_store("trained")
    name = pretrain(config, store, lambda *_: None)
    # The weights come from the last checkpoint, and nothing of the run stays.
    assert tensors_from_bytes(store.get(name), name)
    assert store.names("train/") == []


@pytest.mark.slow
@in_a_bucket
def test_the_command_line_finds_a_store_by_its_endpoint(
    system_of: SystemOf, s3: S3Server, lmeraser: Run, tmp_path: Path
) -> None:
    system = system_of("minute", 24)
    uri = system.store.uri.partition("?")[0]
    config = tmp_path / "config.yaml"
    config.write_text(f"store: {uri}\ns3_endpoint: {s3.endpoint}\n")
    root = system.newest().root
    for options in (
        ("--store", uri, "--s3-endpoint", s3.endpoint),
        ("--store", system.store.uri),
        ("--config", config),
    ):
        shown = lmeraser("status", *options, "--json").json
        assert (shown["state_root"], shown["store"]) == (root, system.store.uri)
    assert lmeraser("log", "check", "--config", config).code == 0
    lmeraser("status", "--store", tmp_path, "--s3-endpoint", s3.endpoint).failed(1, "can only be used with s3://")
    # With a local store, the endpoint applies to rows on S3.
    sources = "public: {kind: glyphs}\nprivate: {kind: parquet, path: s3://rows/private}\n"
    config.write_text(sources)
    at = ("--config", config, "--store", tmp_path / "local", "--s3-endpoint", s3.endpoint)
    lmeraser("status", *at).failed(1, f"{tmp_path}/local is not a store")
    lmeraser("status", "--store", uri, "--s3-endpoint", "localhost").failed(1, "allowed is http://host:port")
    lmeraser("status", "--store", s3.uri(s3.bucket())).failed(1, "is not a store")
    lmeraser("status", "--store", s3.uri("nowhere")).failed(1, "no bucket 'nowhere'")


@in_a_bucket
@pytest.mark.slow
def test_a_copy_in_another_bucket_is_restored_without_what_was_deleted_since(
    system_of: SystemOf, s3: S3Server, lmeraser: Run
) -> None:
    system = system_of("minute", 24)
    copy = replace(system, store=open_store(s3.uri(s3.bucket(versioned=True), "copy")))
    for name in system.store.names():
        copy.store.put(name, system.store.get(name))
    system.delete("s3")
    at, mirror = ("--store", copy.store.uri), s3.uri(s3.bucket(), "log")
    assert lmeraser("log", "mirror", "--store", system.store.uri, "--to", mirror).code == 0
    restore = ("restore", *at, "--keys", copy.keys, "--mirror")
    lmeraser(*restore, s3.uri(s3.bucket(), "log")).failed(1, "not a mirror")
    restored = lmeraser(*restore, mirror, "--json")
    assert (restored.code, restored.json["erased"], restored.json["rows"]) == (0, 1, 23), restored.err
    kept = dict(copy.store.kept())
    together = b"".join(data for data in kept.values() if data is not None)
    assert picture(3) not in together and picture(4) in together
    assert not any("restoring" in name for name in kept)
    finish(copy.coordinator())
    root = copy.fresh_root([row for row in samples(0, 24) if row.sample_id != "s3"])
    assert lmeraser("status", *at, "--json").json["state_root"] == root == system.newest().root


def test_rows_are_read_from_parquet_in_a_bucket(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.bucket()
    expected = []
    for number in range(2):
        rows = samples(30 * number, 30 * number + 30)
        table = pa.table(
            {
                "image": [{"bytes": row.image, "path": None} for row in rows],
                "label": [row.label for row in rows],
                "sample_id": [row.sample_id for row in rows],
                "subject_id": [row.subject_id for row in rows],
            }
        )
        pq.write_table(table, tmp_path / "part.parquet", row_group_size=7)
        s3.client().upload_file(str(tmp_path / "part.parquet"), bucket, f"data/rows/{number}.parquet")
        expected += rows
    s3.client().put_object(Bucket=bucket, Key="data/rows/README.md", Body=b"not rows")
    folder = f"s3://{bucket}/data/rows?endpoint={s3.endpoint}"
    file = f"s3://{bucket}/data/rows/1.parquet?endpoint={s3.endpoint}"
    assert list(open_source(SourceConfig("parquet", folder)).samples(LABELS)) == expected
    assert list(open_source(located(SourceConfig("parquet", file))).samples(LABELS)) == expected[30:]
    with pytest.raises(DataError, match="data/nothing"):
        open_source(SourceConfig("parquet", f"s3://{bucket}/data/nothing?endpoint={s3.endpoint}"))


def test_the_configured_endpoint_also_applies_to_the_rows(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("private: {kind: parquet, path: 's3://rows/a'}\ns3_endpoint: http://one:9000\n")
    assert read_config(file, None).private.path == "s3://rows/a?endpoint=http://one:9000"
    assert read_config(file, None, "http://two:9000").private.path == "s3://rows/a?endpoint=http://two:9000"
    file.write_text("private: {kind: image_folder, path: 's3://rows/a'}\n")
    with pytest.raises(ConfigError, match="only parquet, webdataset, huggingface and manifest are read from S3"):
        open_source(read_config(file, None).private)
