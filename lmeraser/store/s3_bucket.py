"""Whether a bucket is fit for a store: nothing that is purged from it may remain anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from lmeraser.errors import StoreError
from lmeraser.store.s3_errors import code_of, storage_errors

# Responses of a bucket without such a configuration, and of a provider without such a feature.
_NONE = ("ObjectLockConfigurationNotFoundError", "ReplicationConfigurationNotFoundError", "NotImplemented")


def check_bucket(client: Any, bucket: str) -> None:
    """Refuse a bucket that may keep what is purged (decision 19).

    A setting that this process may not read counts as the worst one.

    Raises:
        StoreError: when the bucket has Object Lock, replication or MFA delete, or does not report whether it has.
    """
    lock = _bucket_setting("Object Lock", client.get_object_lock_configuration, bucket)
    if lock.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled":
        raise _refused(bucket, "has Object Lock, which can forbid purging; it cannot be turned off again")
    replication = _bucket_setting("replication", client.get_bucket_replication, bucket)
    if replication.get("ReplicationConfiguration", {}).get("Rules"):
        raise _refused(bucket, "has replication rules, and the replicas would not be purged")
    if _bucket_setting("MFA delete", client.get_bucket_versioning, bucket).get("MFADelete") == "Enabled":
        raise _refused(bucket, "has MFA delete, so versions can only be purged manually")


def _bucket_setting(feature: str, read: Callable[..., dict[str, Any]], bucket: str) -> dict[str, Any]:
    with storage_errors(f"cannot determine whether the bucket {bucket!r} has {feature}, so it is refused", bucket):
        try:
            return read(Bucket=bucket)
        except ClientError as error:
            if code_of(error) in _NONE:
                return {}
            raise


def _refused(bucket: str, why: str) -> StoreError:
    return StoreError(f"the bucket {bucket!r} {why}: use a bucket without it (see docs/s3.md)")
