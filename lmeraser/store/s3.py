"""A store under a prefix of a bucket, on S3 or a compatible provider."""

from __future__ import annotations

import functools
import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import boto3.session
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

from lmeraser.errors import LostRaceError, ObjectMissingError, StoreError
from lmeraser.store.fence import Fence, check_put_if_absent, unfenced
from lmeraser.store.location import S3Location
from lmeraser.store.names import check_name
from lmeraser.store.s3_bucket import check_bucket
from lmeraser.store.s3_errors import check_deleted, code_of, storage_errors

# A replica answers 503 once its lease has expired, and must not hang for minutes in a read that gets no response.
_READS = {"connect_timeout": 2, "read_timeout": 5, "retries": {"mode": "standard", "total_max_attempts": 3}}
_WRITES = {"connect_timeout": 5, "read_timeout": 60, "retries": {"mode": "standard", "total_max_attempts": 5}}
# As many as a replica has reading threads: those that look for newer commits, and those that read specialists.
_CONNECTIONS = 48
_PART_BYTES = 16 << 20
_TRANSFER = TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=4)
_ATTEMPTS = 5
_CONFLICT_PAUSE_S = 0.1
_DELETED_AT_ONCE = 1000
_WRITER = "writer"


class S3Store:
    """Objects are keys ``prefix/name``. S3 returns an object whole or not at all, and a read sees the last write."""

    def __init__(self, location: S3Location) -> None:
        self._location = location
        self.uri = location.uri
        self._bucket = location.bucket
        self._prefix = f"{location.prefix}/" if location.prefix else ""
        self._reads, self._writes = (_client(location, options) for options in (_READS, _WRITES))

    def get(self, name: str) -> bytes:
        return self._get(name, self._key(name))

    def put(self, name: str, data: bytes) -> None:
        key = self._key(name)
        with self._errors(f"cannot write {name}"):
            if len(data) < _PART_BYTES:
                self._writes.put_object(Bucket=self._bucket, Key=key, Body=data)
            else:
                self._writes.upload_fileobj(io.BytesIO(data), self._bucket, key, Config=_TRANSFER)

    def put_if_absent(self, name: str, data: bytes) -> None:
        key = self._key(name)
        # If the response to an attempt is lost, the object may be ours: it is recognised by this mark.
        mark = uuid.uuid4().hex
        with self._errors(f"cannot write {name}"):
            for attempt in range(_ATTEMPTS):
                try:
                    self._writes.put_object(
                        Bucket=self._bucket, Key=key, Body=data, IfNoneMatch="*", Metadata={_WRITER: mark}
                    )
                    return
                except ClientError as error:
                    if code_of(error) == "PreconditionFailed":
                        if self._writer_of(key) == mark:
                            return
                        raise LostRaceError(f"{name} in {self.uri} was written by another process first") from error
                    # Two simultaneous writers: S3 asks to try again, and the next response tells who was first.
                    if code_of(error) != "ConditionalRequestConflict" or attempt == _ATTEMPTS - 1:
                        raise
                    time.sleep(_CONFLICT_PAUSE_S * 2**attempt)

    def exists(self, name: str) -> bool:
        with self._errors(f"cannot look for {name}"):
            return self._head(self._key(name)) is not None

    def names(self, prefix: str = "") -> list[str]:
        with self._errors("cannot list the objects"):
            pages = self._reads.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        # Consoles represent an empty folder as a key that ends in a slash.
        return sorted(key.removeprefix(self._prefix) for key in keys if not key.endswith("/"))

    def purge(self, name: str, fence: Fence) -> None:
        key = self._key(name)
        self._purge(key, lambda other: other != key, fence)

    def purge_below(self, prefix: str, keep: Callable[[str], bool], fence: Fence) -> None:
        self._purge(self._prefix + prefix, lambda key: keep(key.removeprefix(self._prefix)), fence)

    def purge_partial(self, keep: Callable[[str], bool], fence: Fence) -> None:
        def doomed() -> list[tuple[str, str]]:
            return [(key, upload) for key, upload in self._uploads() if not keep(key.removeprefix(self._prefix))]

        with self._errors("cannot purge unfinished uploads"):
            uploads = doomed()
            if uploads:
                fence()
            for key, upload in uploads:
                try:
                    self._writes.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
                except ClientError as error:
                    if code_of(error) != "NoSuchUpload":
                        raise
            # A part that was in transit when its upload was aborted can remain.
            if uploads and (remaining := sorted(set(uploads).intersection(doomed()))):
                raise StoreError(
                    f"{len(remaining)} unfinished upload(s) are still listed in {self.uri}, such as {remaining[0][0]}"
                )

    def kept(self) -> Iterator[tuple[str, bytes | None]]:
        with self._errors("cannot list what is kept"):
            versions = list(self._versions(self._prefix, lambda _: False, markers=False))
            uploads = list(self._uploads())
        for key, version in versions:
            try:
                yield f"{key} (version {version})", self._get(key, key, VersionId=version)
            except ObjectMissingError:
                continue
        for key, upload in uploads:
            yield f"{key} (unfinished upload {upload})", None

    def below(self, folder: str) -> S3Store:
        return S3Store(replace(self._location, prefix=f"{self._prefix}{folder.removesuffix('/')}"))

    def check(self) -> None:
        with self._errors("cannot list the objects"):
            # First, because it distinguishes a missing bucket from one without access.
            self._reads.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        check_bucket(self._reads, self._bucket)
        self._try_rights(f"probe/{uuid.uuid4().hex}")

    def _try_rights(self, name: str) -> None:
        """Perform every operation of a store once, on a probe object."""
        self.put_if_absent(name, b"probe")
        try:
            check_put_if_absent(self, name, "If-None-Match is ignored")
            with self._errors("cannot begin an upload"):
                self._writes.create_multipart_upload(Bucket=self._bucket, Key=self._key(name))
        finally:
            self.purge_partial(lambda other: other != name, unfenced)
            self.purge(name, unfenced)

    def _get(self, name: str, key: str, **version: str) -> bytes:
        with self._errors(f"cannot read {name}"):
            for attempt in range(_ATTEMPTS):
                try:
                    answer = self._reads.get_object(Bucket=self._bucket, Key=key, **version)
                    data: bytes = answer["Body"].read()
                    return data
                except ClientError as error:
                    if code_of(error) in ("NoSuchKey", "NoSuchVersion"):
                        raise ObjectMissingError(f"{self.uri} has no object {name}") from error
                    raise
                except (ReadTimeoutError, ResponseStreamingError, IncompleteReadError):
                    # The response broke off, and botocore does not retry that.
                    if attempt == _ATTEMPTS - 1:
                        raise
        raise AssertionError("unreachable")

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            head: dict[str, Any] = self._reads.head_object(Bucket=self._bucket, Key=key)
            return head
        except ClientError as error:
            if code_of(error) in ("404", "NoSuchKey"):
                return None
            raise

    def _writer_of(self, key: str) -> str | None:
        mark: str | None = (self._head(key) or {}).get("Metadata", {}).get(_WRITER)
        return mark

    def _purge(self, prefix: str, keep: Callable[[str], bool], fence: Fence) -> None:
        """Delete every version and delete marker of the keys, and check that none is listed any more."""
        with self._errors("cannot purge"):
            doomed = list(self._versions(prefix, keep))
            if doomed:
                fence()
            for start in range(0, len(doomed), _DELETED_AT_ONCE):
                objects = [{"Key": key, "VersionId": version} for key, version in doomed[start:][:_DELETED_AT_ONCE]]
                answer = self._writes.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
                check_deleted(answer, f"cannot purge in {self.uri}", self._bucket)
            remaining = sorted(set(doomed).intersection(self._versions(prefix, keep))) if doomed else []
        if remaining:
            raise StoreError(
                f"{len(remaining)} version(s) are still listed in {self.uri} after the purge, such as {remaining[0][0]}"
            )

    def _versions(self, prefix: str, keep: Callable[[str], bool], *, markers: bool = True) -> Iterator[tuple[str, str]]:
        """(key, version) of everything under the prefix; without versioning, the version is "null"."""
        kinds = ("Versions", "DeleteMarkers") if markers else ("Versions",)
        for page in self._reads.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=prefix):
            for entry in (entry for kind in kinds for entry in page.get(kind, [])):
                if not keep(entry["Key"]):
                    yield entry["Key"], entry["VersionId"]

    def _uploads(self) -> Iterator[tuple[str, str]]:
        """(key, id) of the uploads below the prefix that are neither completed nor aborted."""
        pages = self._reads.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=self._prefix, EncodingType="url"
        )
        for page in pages:
            decode = unquote if page.get("EncodingType") == "url" else str
            for entry in page.get("Uploads", []):
                yield decode(entry["Key"]), entry["UploadId"]

    def _key(self, name: str) -> str:
        return self._prefix + check_name(name)

    def _errors(self, what: str) -> Any:
        return storage_errors(f"{what} in {self.uri}", self._bucket)


def _client(location: S3Location, options: dict[str, Any]) -> Any:
    # Self-hosted providers rarely have a host name per bucket.
    style = {"addressing_style": "path"} if location.endpoint else {}
    config = Config(max_pool_connections=_CONNECTIONS, s3=style, **options)
    # A session holds the model of S3, which takes long to load. Creating clients from it is not thread-safe.
    with _making:
        return _session().client("s3", endpoint_url=location.endpoint or None, config=config)


_making = threading.Lock()


@functools.cache
def _session() -> boto3.session.Session:
    return boto3.session.Session()
