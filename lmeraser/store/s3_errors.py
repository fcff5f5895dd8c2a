"""Turns errors of botocore into StoreError with the bucket, the missing permission, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from lmeraser.errors import StoreError

# The permission that each operation needs (Service Authorization Reference for Amazon S3).
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
    """The error's code, such as NoSuchKey; for a HEAD request, which has no body, the status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def denied(operation: str, bucket: str) -> str:
    """The message for an operation that is not allowed."""
    return (
        f"access to the bucket {bucket!r} is denied; the permission {RIGHTS.get(operation, operation)} is missing "
        "(docs/s3.md has the policy)"
    )


@contextmanager
def storage_errors(what: str, bucket: str) -> Iterator[None]:
    """Turn errors of botocore into a StoreError whose message begins with ``what``."""
    try:
        yield
    except ClientError as error:
        raise StoreError(f"{what}: {_message(error, bucket)}") from error
    except NoCredentialsError as error:
        raise StoreError(
            f"{what}: no credentials were found in the environment, in an AWS profile or in the machine's role"
        ) from error
    except BotoCoreError as error:
        raise StoreError(f"{what}: {error}") from error


def check_deleted(answer: dict[str, Any], what: str, bucket: str) -> None:
    """Check the response of DeleteObjects, which is 200 even when objects were not deleted.

    Raises:
        StoreError: when it names an object that was not deleted.
    """
    for error in answer.get("Errors", []):
        reason = denied("DeleteObjects", bucket) if error.get("Code") in _DENIED else error.get("Message", "")
        raise StoreError(f"{what}: {error.get('Key')} was not deleted ({error.get('Code')}): {reason}")


def _message(error: ClientError, bucket: str) -> str:
    code = code_of(error)
    if code == "NoSuchBucket":
        return f"there is no bucket {bucket!r}; create it, without Object Lock and replication, or correct --store"
    if code in _DENIED:
        return f"{denied(error.operation_name, bucket)}: {error}"
    return str(error)
