"""Is a bucket one that a store may lie in: can what is purged from it stay anywhere?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from lmeraser.errors import StoreError
from lmeraser.store.s3_errors import code_of, storage_errors

# What a bucket answers that never had such a configuration, or a provider that has no such thing.
_NONE = ("ObjectLockConfigurationNotFoundError", "ReplicationConfigurationNotFoundError", "NotImplemented")


def check_bucket(client: Any, bucket: str) -> None:
    """Refuse a bucket that keeps what is purged.

    A question that is forbidden counts as the worst answer.

    Raises:
        StoreError: when the bucket has Object Lock, replication or MFA delete, or does not say whether it has.
    """
    lock = _asked("Object Lock", client.get_object_lock_configuration, bucket)
    if lock.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled":
        raise _refused(bucket, "has Object Lock, which can forbid to purge objects; it cannot be turned off again")
    replication = _asked("replication", client.get_bucket_replication, bucket)
    if replication.get("ReplicationConfiguration", {}).get("Rules"):
        raise _refused(bucket, "has replication rules, and their copies elsewhere would not be purged")
    if _asked("MFA delete", client.get_bucket_versioning, bucket).get("MFADelete") == "Enabled":
        raise _refused(bucket, "has MFA delete, so versions can only be purged by hand")


def _asked(feature: str, question: Callable[..., dict[str, Any]], bucket: str) -> dict[str, Any]:
    with storage_errors(f"cannot tell whether the bucket {bucket!r} has {feature}, so it is refused", bucket):
        try:
            return question(Bucket=bucket)
        except ClientError as error:
            if code_of(error) in _NONE:
                return {}
            raise


def _refused(bucket: str, why: str) -> StoreError:
    return StoreError(f"the bucket {bucket!r} {why}: use one without (docs/s3.md says what a bucket must be)")
