"""What a network and other providers do to answers, through a proxy on loopback before moto's server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.lib.s3_proxy import HALF, LOST, S3Proxy, s3_proxy
from benchmarks.lib.s3_server import S3Server
from lmeraser.errors import LostRaceError, ObjectMissingError, StoreError
from lmeraser.state.log import Log
from lmeraser.store import Store, open_store, unfenced


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(s3: S3Server, proxy: S3Proxy) -> Store:
    return open_store(f"s3://{s3.bucket()}/store?endpoint={proxy.endpoint}")


def test_an_append_whose_answer_was_lost_is_not_a_lost_race(store: Store, proxy: S3Proxy) -> None:
    proxy.once("PUT", "log/1", LOST)
    store.put_if_absent("log/1", b"ours")
    assert len([line for line in proxy.requests if line.startswith("PUT")]) == 2
    assert store.get("log/1") == b"ours"
    with pytest.raises(LostRaceError):
        store.put_if_absent("log/1", b"ours")


def test_an_append_whose_answer_was_lost_and_that_came_second_is_a_lost_race(store: Store, proxy: S3Proxy) -> None:
    store.put_if_absent("log/1", b"the same bytes")
    proxy.once("PUT", "log/1", LOST)
    with pytest.raises(LostRaceError):
        store.put_if_absent("log/1", b"the same bytes")


def test_simultaneous_writers_try_again(store: Store, proxy: S3Proxy) -> None:
    # moto never answers so; S3 does while another conditional write of the same key is under way.
    proxy.once("PUT", "log/1", (409, "ConditionalRequestConflict"))
    store.put_if_absent("log/1", b"ours")
    assert store.get("log/1") == b"ours"
    proxy.once("PUT", "log/1", (409, "ConditionalRequestConflict"))
    with pytest.raises(LostRaceError):
        store.put_if_absent("log/1", b"second")


def test_a_conflict_that_does_not_end_is_a_store_error(store: Store, proxy: S3Proxy) -> None:
    proxy.always("PUT", "log/1", (409, "ConditionalRequestConflict"))
    with pytest.raises(StoreError, match="ConditionalRequestConflict") as caught:
        store.put_if_absent("log/1", b"ours")
    assert not isinstance(caught.value, LostRaceError)


def test_a_log_whose_answers_are_lost_continues_without_duplicates(store: Store, proxy: S3Proxy) -> None:
    log = Log(store)
    for number in range(1, 4):
        proxy.once("PUT", f"log/{number:010d}", LOST)
        assert log.append("term", number, {}).number == number
    assert [record.term for record in Log(store).advance()] == [1, 2, 3]


@pytest.mark.parametrize("fault", [(503, "SlowDown"), (500, "InternalError"), LOST, HALF])
def test_transient_errors_are_retried(store: Store, proxy: S3Proxy, fault: tuple[int, str] | str) -> None:
    store.put("rows/a", bytes(100_000))
    proxy.once("GET", "rows/a", fault)
    assert store.get("rows/a") == bytes(100_000)
    proxy.once("POST", "delete", fault)
    store.purge("rows/a", unfenced)
    with pytest.raises(ObjectMissingError):
        store.get("rows/a")


def test_a_server_that_keeps_failing_is_a_store_error(store: Store, proxy: S3Proxy) -> None:
    store.put("rows/a", b"1")
    proxy.always("GET", "rows/a", (503, "SlowDown"))
    with pytest.raises(StoreError, match="SlowDown") as caught:
        store.get("rows/a")
    assert not isinstance(caught.value, ObjectMissingError)


@pytest.mark.parametrize(
    ("part", "right"),
    [
        ("object-lock", "s3:GetBucketObjectLockConfiguration"),
        ("replication", "s3:GetReplicationConfiguration"),
        ("versioning", "s3:GetBucketVersioning"),
    ],
)
def test_a_setting_that_may_not_be_read_counts_as_the_worst_one(
    store: Store, proxy: S3Proxy, part: str, right: str
) -> None:
    # moto's policies call the first two s3:ListBucket.
    proxy.once("GET", part, (403, "AccessDenied"))
    with pytest.raises(StoreError, match=f"so it is refused.*the permission {right} is missing"):
        store.check()


def test_a_bucket_with_mfa_delete_is_refused(store: Store, proxy: S3Proxy) -> None:
    # moto has no MFA delete.
    configuration = (
        "<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete></VersioningConfiguration>"
    )
    proxy.once("GET", "versioning", (200, configuration))
    with pytest.raises(StoreError, match="has MFA delete"):
        store.check()


@pytest.mark.parametrize("part", ["object-lock", "replication", "versioning"])
def test_a_feature_that_a_provider_lacks_is_accepted(store: Store, proxy: S3Proxy, part: str) -> None:
    proxy.once("GET", part, (501, "NotImplemented"))
    store.check()


def test_a_provider_that_cannot_list_versions_is_refused(store: Store, proxy: S3Proxy) -> None:
    proxy.always("GET", "versions", (501, "NotImplemented"))
    with pytest.raises(StoreError, match="NotImplemented"):
        store.check()


def test_a_provider_that_ignores_if_none_match_is_refused(store: Store, proxy: S3Proxy) -> None:
    proxy.always("PUT", "probe", "if-none-match")
    with pytest.raises(StoreError, match="If-None-Match is ignored"):
        store.check()
    assert store.names() == []


def test_objects_that_were_not_deleted_are_reported(store: Store, proxy: S3Proxy) -> None:
    # A bucket that answers 200 and deletes nothing, as one with a policy against deletions of versions does.
    store.put("rows/a", b"1")
    proxy.always("POST", "delete", (200, "<DeleteResult></DeleteResult>"))
    with pytest.raises(StoreError, match="still listed"):
        store.purge("rows/a", unfenced)
