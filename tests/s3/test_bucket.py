"""Buckets that are refused, missing permissions, and the removal of purged objects with all their versions.

The server is moto's, which lacks some of S3: it never answers 409 to simultaneous writers, it lists unfinished uploads
on one page, it has no MFA delete, and in its policies `s3:DeleteObject` covers all deletions.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from benchmarks.lib.s3_server import CREDENTIALS, S3Server, s3_server
from lmeraser.errors import LostRaceError, ObjectMissingError, StoreError
from lmeraser.store import Store, open_store, unfenced
from lmeraser.store.location import S3Location, with_endpoint

MEBI = 1 << 20


@pytest.fixture
def versioned(s3: S3Server) -> tuple[str, Store]:
    bucket = s3.bucket(versioned=True)
    return bucket, open_store(s3.uri(bucket))


def all_versions(s3: S3Server, bucket: str) -> list[str]:
    """Keys of all versions and delete markers, by boto3 itself."""
    listed = s3.client().list_object_versions(Bucket=bucket)
    return [entry["Key"] for kind in ("Versions", "DeleteMarkers") for entry in listed.get(kind, [])]


def test_a_purge_leaves_no_version_and_no_delete_marker(s3: S3Server, versioned: tuple[str, Store]) -> None:
    bucket, store = versioned
    client = s3.client()
    for data in (b"one", b"two"):
        store.put("rows/a", data)
    client.delete_object(Bucket=bucket, Key="store/rows/a")
    store.put("rows/a", b"three")
    client.delete_object(Bucket=bucket, Key="store/rows/a")
    assert (store.names(), store.exists("rows/a"), len(all_versions(s3, bucket))) == ([], False, 5)
    store.purge("rows/a", unfenced)
    assert all_versions(s3, bucket) == []


def test_a_sweep_finds_versions_whose_object_was_deleted_by_others(s3: S3Server, versioned: tuple[str, Store]) -> None:
    bucket, store = versioned
    store.put("rows/a", b"private")
    store.put("rows/b", b"kept")
    s3.client().delete_object(Bucket=bucket, Key="store/rows/a")
    assert b"private" in [data for _, data in store.kept()]
    store.purge_below("rows/", lambda name: name == "rows/b", unfenced)
    assert all_versions(s3, bucket) == ["store/rows/b"]


def test_versions_from_before_versioning_was_suspended_are_purged(s3: S3Server, versioned: tuple[str, Store]) -> None:
    bucket, store = versioned
    store.put("rows/a", b"one")
    s3.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    store.put("rows/a", b"two")
    store.purge("rows/a", unfenced)
    assert all_versions(s3, bucket) == []


@pytest.mark.slow
def test_more_than_a_page_of_objects_is_listed_and_purged(s3: S3Server) -> None:
    bucket = s3.bucket()
    store = open_store(s3.uri(bucket))
    names = [f"rows/{number:05d}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, b""), names))
    assert store.names("rows/") == names
    start = len(s3.requests)
    store.purge_below("rows/", lambda name: name == names[7], unfenced)
    assert store.names() == [names[7]]
    assert s3.counted(start)["DELETE"] == 2


@pytest.mark.parametrize("prefix", ["", "a", "a/b", "ü ä+%2F&=#", "a.b"])
def test_a_store_writes_only_below_its_prefix(s3: S3Server, prefix: str) -> None:
    bucket = s3.bucket()
    client = s3.client()
    for key in ("a0", "ab/rows/1", "other"):
        client.put_object(Bucket=bucket, Key=key, Body=b"not ours")
    store = open_store(s3.uri(bucket, prefix))
    store.put("rows/1", b"ours")
    assert client.get_object(Bucket=bucket, Key=f"{prefix}/rows/1".lstrip("/"))["Body"].read() == b"ours"
    store.purge_below("rows/", lambda _: False, unfenced)
    assert sorted(all_versions(s3, bucket)) == ["a0", "ab/rows/1", "other"]
    assert open_store(f"s3://{bucket}/{prefix}/?endpoint={s3.endpoint}/").uri == store.uri


def test_a_folder_placeholder_of_a_console_is_not_an_object(s3: S3Server) -> None:
    bucket = s3.bucket()
    store = open_store(s3.uri(bucket))
    s3.client().put_object(Bucket=bucket, Key="store/log/", Body=b"")
    store.put("log/1", b"")
    assert store.names() == ["log/1"]


def test_a_large_object_is_uploaded_in_parts(s3: S3Server) -> None:
    store = open_store(s3.uri(s3.bucket()))
    data = os.urandom(MEBI) * 33
    start = len(s3.requests)
    store.put("rows/large", data)
    assert store.get("rows/large") == data
    assert s3.counted(start)["PUT"] == 3


@pytest.mark.slow
def test_parts_left_by_a_killed_upload_are_swept(s3: S3Server) -> None:
    bucket = s3.bucket()
    store = open_store(s3.uri(bucket))
    code = (
        "import sys; from lmeraser.store import open_store; open_store(sys.argv[1]).put(sys.argv[2], bytes(512 << 20))"
    )
    client = s3.client()
    for name in ("rows/lost", "log/lost"):
        with subprocess.Popen([sys.executable, "-c", code, store.uri, name]) as process:
            while not uploaded(client, bucket, f"store/{name}"):
                assert process.poll() is None, "the writer has ended"
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
    assert store.names() == []
    assert len([name for name, data in store.kept() if data is None]) == 2
    store.purge_partial(lambda name: name == "log/lost", unfenced)
    assert [entry["Key"] for entry in client.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["store/log/lost"]
    store.purge_partial(lambda _: False, unfenced)
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
    assert list(store.kept()) == []


def uploaded(client: Any, bucket: str, key: str) -> bool:
    """Whether a part of the object has been uploaded."""
    uploads = client.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads", [])
    return any(
        client.list_parts(Bucket=bucket, Key=key, UploadId=upload["UploadId"]).get("Parts") for upload in uploads
    )


def test_a_bucket_with_object_lock_is_refused(s3: S3Server) -> None:
    bucket = s3.bucket(ObjectLockEnabledForBucket=True)
    with pytest.raises(StoreError, match=f"'{bucket}' has Object Lock"):
        open_store(s3.uri(bucket)).check()


def test_a_bucket_with_replication_is_refused(s3: S3Server) -> None:
    bucket, copies = s3.bucket(versioned=True), s3.bucket(versioned=True)
    rule = {"Status": "Disabled", "Prefix": "elsewhere", "Destination": {"Bucket": f"arn:aws:s3:::{copies}"}}
    s3.client().put_bucket_replication(
        Bucket=bucket, ReplicationConfiguration={"Role": "arn:aws:iam::123456789012:role/copy", "Rules": [rule]}
    )
    with pytest.raises(StoreError, match=f"'{bucket}' has replication"):
        open_store(s3.uri(bucket)).check()


def test_a_bucket_that_is_missing_is_named(s3: S3Server) -> None:
    store = open_store(s3.uri("nowhere"))
    calls: list[Callable[[], object]] = [store.check, store.names, lambda: store.get("a"), lambda: store.put("a", b"")]
    for call in calls:
        with pytest.raises(StoreError, match="no bucket 'nowhere'") as caught:
            call()
        assert not isinstance(caught.value, ObjectMissingError)


def test_a_server_that_does_not_answer_is_a_store_error(s3: S3Server) -> None:  # noqa: ARG001
    with pytest.raises(StoreError, match="cannot read a in s3://bucket"):
        open_store("s3://bucket/store?endpoint=http://127.0.0.1:9").get("a")


def test_missing_credentials_are_reported(s3: S3Server) -> None:
    code = "import sys; from lmeraser.store import open_store; open_store(sys.argv[1]).names()"
    bare = {name: value for name, value in os.environ.items() if name not in CREDENTIALS}
    environment = {**bare, "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/none"}
    environment["AWS_SHARED_CREDENTIALS_FILE"] = "/none"
    ran = subprocess.run(
        [sys.executable, "-c", code, s3.uri("bucket")], env=environment, capture_output=True, text=True, check=False
    )
    assert "no credentials were found" in ran.stderr


def test_the_endpoint_may_come_from_the_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = s3.bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    store = open_store(f"s3://{bucket}/store")
    store.put("a", b"1")
    assert store.uri == f"s3://{bucket}/store"
    assert open_store(s3.uri(bucket)).get("a") == b"1"


URIS = [
    ("s3://", "names the bucket ''"),
    ("s3://a/b", "names the bucket 'a'"),
    ("s3://bucket/a//b", "no part of it may be empty"),
    ("s3://bucket/a/../b", "no part of it may be empty"),
    ("s3://bucket/a?region=x", "'?' and control characters"),
    ("s3://bucket/a\n", "'?' and control characters"),
    ("s3://bucket/a?endpoint=host:9000", "allowed is http://host:port"),
    ("s3://bucket/a?endpoint=ftp://host", "allowed is http://host:port"),
    ("s3://bucket/a?endpoint=http://me:secret@host", "contains credentials"),
]


@pytest.mark.parametrize(("uri", "reason"), URIS)
def test_an_invalid_uri_is_refused(uri: str, reason: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(uri)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_endpoint_is_part_of_the_uri() -> None:
    uri = "s3://bucket/a?endpoint=https://host:9000"
    assert with_endpoint("s3://bucket/a/", "https://host:9000/") == with_endpoint(uri, "https://host:9000") == uri
    assert S3Location.parse(uri) == S3Location("bucket", "a", "https://host:9000")
    for location in (uri, "/data/store"):
        with pytest.raises(StoreError, match="endpoint"):
            with_endpoint(location, "https://other")


def test_a_lost_race_is_reported_and_the_first_object_is_kept(s3: S3Server) -> None:
    store = open_store(s3.uri(s3.bucket(versioned=True)))
    store.put_if_absent("log/1", b"first")
    with pytest.raises(LostRaceError, match="log/1"):
        store.put_if_absent("log/1", b"first")
    assert [data for _, data in store.kept()] == [b"first"]


# The message for each missing permission. Object Lock and replication are tested in test_network.py.
NEEDED = {
    "s3:ListBucket": "s3:ListBucket is missing",
    "s3:GetBucketVersioning": "MFA delete, so it is refused",
    "s3:PutObject": "s3:PutObject is missing",
    "s3:GetObject": "s3:GetObject is missing",
    "s3:ListBucketMultipartUploads": "s3:ListBucketMultipartUploads is missing",
    "s3:AbortMultipartUpload": "s3:AbortMultipartUpload is missing",
    "s3:ListBucketVersions": "s3:ListBucketVersions is missing",
    "s3:DeleteObject": "s3:DeleteObject and s3:DeleteObjectVersion is missing",
}


# Checks a store at every line, under the credentials that it was started with.
CHECKER = """
import sys
from lmeraser.errors import StoreError
from lmeraser.store import open_store
for _ in sys.stdin:
    try:
        print(open_store(sys.argv[1]).check(), flush=True)
    except StoreError as error:
        print(error, flush=True)
"""


@pytest.mark.slow
def test_each_missing_permission_is_named() -> None:
    with s3_server() as server:
        bucket = server.bucket()
        service, admin = (new_user(server, name) for name in ("service", "admin"))
        put_policy(server.client("iam"), "admin", ["*"])
        request = urllib.request.Request(f"{server.endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
        urllib.request.urlopen(request).close()
        iam = server.client("iam", aws_access_key_id=admin[0], aws_secret_access_key=admin[1])
        environment = {
            **os.environ,
            **CREDENTIALS,
            "AWS_ACCESS_KEY_ID": service[0],
            "AWS_SECRET_ACCESS_KEY": service[1],
        }
        with subprocess.Popen(
            [sys.executable, "-c", CHECKER, server.uri(bucket)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as checker:
            assert checker.stdin is not None and checker.stdout is not None
            for permission, message in [*NEEDED.items(), ("none", "None\n")]:
                put_policy(iam, "service", [action for action in NEEDED if action != permission])
                checker.stdin.write("check\n")
                checker.stdin.flush()
                output = checker.stdout.readline()
                assert message in output
                assert permission == "none" or f"'{bucket}'" in output
            checker.stdin.close()


def new_user(server: S3Server, name: str) -> tuple[str, str]:
    """A user's access key."""
    iam = server.client("iam")
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


def put_policy(iam: Any, user: str, actions: list[str]) -> None:
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    iam.put_user_policy(UserName=user, PolicyName="rights", PolicyDocument=json.dumps(policy))
