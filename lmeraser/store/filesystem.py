"""The same locations as file systems of pyarrow, for code that streams files instead of objects."""

from __future__ import annotations

import os

from pyarrow import fs

from lmeraser.errors import StoreError
from lmeraser.store.location import SCHEME, S3Location, local_path


def filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a folder or of ``s3://bucket/prefix?endpoint=URL``, and the path in it.

    Credentials come from the environment, a profile or the machine's role. Only the region of a
    bucket on AWS is looked up.

    Raises:
        StoreError: when the URI cannot be parsed, or AWS does not know the bucket.
    """
    if not uri.startswith(SCHEME):
        return fs.LocalFileSystem(), str(local_path(uri))
    location = S3Location.parse(uri)
    path = f"{location.bucket}/{location.prefix}".rstrip("/")
    # Only some builds of pyarrow read these variables; boto3 always does.
    endpoint = location.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    if endpoint:
        scheme, _, host = endpoint.partition("://")
        return fs.S3FileSystem(scheme=scheme, endpoint_override=host), path
    try:
        return fs.S3FileSystem(region=fs.resolve_s3_region(location.bucket)), path
    except OSError as error:
        raise StoreError(f"cannot find the bucket {location.bucket!r} on AWS: {error}") from error
