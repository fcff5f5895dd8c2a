"""What botocore raises, told as StoreError: with the bucket, the right that is missing, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from lmeraser.errors import StoreError

# The right that each operation needs (Service Authorization Reference for Amazon S3).
RIGHTS = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectsV2": "s3:ListBucket",
    "ListObjectVersions": "s3:ListBucketVersions",
    "DeleteObjects": "s3:DeleteObject and s3:DeleteObjectVersion",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "GetBucketReplication": "s3:GetReplicationConfiguration",
}
_DENIED = ("AccessDenied", "403")


def code_of(error: ClientError) -> str:
    """The error's code, such as NoSuchKey; a status where a HEAD request has no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def denied(operation: str, bucket: str) -> str:
    """What to tell when an operation is not allowed."""
    return (
        f"access to the bucket {bucket!r} is denied; the right {RIGHTS.get(operation, operation)} is missing "
        "(docs/s3.md has the policy)"
    )


@contextmanager
def storage_errors(what: str, bucket: str) -> Iterator[None]:
    """Turn what botocore raises into StoreError that begins with ``what``."""
    try:
        yield
    except ClientError as error:
        raise StoreError(f"{what}: {_told(error, bucket)}") from error
    except NoCredentialsError as error:
        raise StoreError(
            f"{what}: no credentials were found in the environment, in a profile of AWS or in the machine's role"
        ) from error
    except BotoCoreError as error:
        raise StoreError(f"{what}: {error}") from error


def check_deleted(answer: dict[str, Any], what: str, bucket: str) -> None:
    """DeleteObjects answers 200 and names what it did not delete.

    Raises:
        StoreError: when there is any such object.
    """
    for error in answer.get("Errors", []):
        told = denied("DeleteObjects", bucket) if error.get("Code") in _DENIED else error.get("Message", "")
        raise StoreError(f"{what}: {error.get('Key')} was not deleted ({error.get('Code')}): {told}")


def _told(error: ClientError, bucket: str) -> str:
    code = code_of(error)
    if code == "NoSuchBucket":
        return f"there is no bucket {bucket!r}; make it, without Object Lock and replication, or correct --store"
    if code in _DENIED:
        return f"{denied(error.operation_name, bucket)}: {error}"
    return str(error)
