"""A store under a prefix of a bucket, on S3 or a provider that speaks its protocol."""

from __future__ import annotations

import functools
import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
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

# A replica answers 503 once its lease is out, and must not hang for minutes in a look that got no answer.
_READS = {"connect_timeout": 2, "read_timeout": 5, "retries": {"mode": "standard", "total_max_attempts": 3}}
_WRITES = {"connect_timeout": 5, "read_timeout": 60, "retries": {"mode": "standard", "total_max_attempts": 5}}
# As many as a replica has threads that read: its looks for newer commits, and its specialists' readers.
_CONNECTIONS = 48
_PART_BYTES = 16 << 20
_TRANSFER = TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=4)
_ATTEMPTS = 5
_CONFLICT_PAUSE_S = 0.1
_DELETED_AT_ONCE = 1000
_WRITER = "writer"


class S3Store:
    """Objects are keys ``prefix/name``. S3 shows an object whole or not at all, and every read sees the last write."""

    def __init__(self, location: S3Location) -> None:
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
        # A try of this call whose answer was lost leaves an object that is ours: it is known by this mark.
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
                    # Two writers at one moment: S3 asks to try again, and says then who was first.
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
        # A key that ends in a slash is how consoles show an empty folder.
        return sorted(key.removeprefix(self._prefix) for key in keys if not key.endswith("/"))

    def purge(self, name: str, fence: Fence) -> None:
        key = self._key(name)
        self._purge(key, lambda other: other != key, fence)

    def purge_below(self, prefix: str, keep: Callable[[str], bool], fence: Fence) -> None:
        self._purge(self._prefix + prefix, lambda key: keep(key.removeprefix(self._prefix)), fence)

    def purge_partial(self, keep: Callable[[str], bool], fence: Fence) -> None:
        def doomed() -> list[tuple[str, str]]:
            found = self._uploads()
            return [(key, upload) for key, upload in found if not keep(key.removeprefix(self._prefix))]

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
            # A part that was on its way when its upload was aborted can stay.
            if uploads and (left := sorted(set(uploads).intersection(doomed()))):
                raise StoreError(
                    f"{len(left)} unfinished upload(s) are still listed in {self.uri}, such as {left[0][0]}"
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

    def check(self) -> None:
        with self._errors("cannot list the objects"):
            # First, because it tells a bucket that is missing from one that is closed.
            self._reads.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        check_bucket(self._reads, self._bucket)
        self._try_rights(f"probe/{uuid.uuid4().hex}")

    def _try_rights(self, name: str) -> None:
        """Do once all that a store does, with an object of its own."""
        self.put_if_absent(name, b"probe")
        try:
            check_put_if_absent(self, name, "If-None-Match is not heeded")
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
                    # The answer broke off in its middle, where botocore does not try again.
                    if attempt == _ATTEMPTS - 1:
                        raise
        raise AssertionError("unreachable")

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._reads.head_object(Bucket=self._bucket, Key=key)
            return found
        except ClientError as error:
            if code_of(error) in ("404", "NoSuchKey"):
                return None
            raise

    def _writer_of(self, key: str) -> str | None:
        mark: str | None = (self._head(key) or {}).get("Metadata", {}).get(_WRITER)
        return mark

    def _purge(self, prefix: str, keep: Callable[[str], bool], fence: Fence) -> None:
        """Delete every version and delete marker of the keys, and list to check."""
        with self._errors("cannot purge"):
            doomed = list(self._versions(prefix, keep))
            if doomed:
                fence()
            for start in range(0, len(doomed), _DELETED_AT_ONCE):
                objects = [{"Key": key, "VersionId": version} for key, version in doomed[start:][:_DELETED_AT_ONCE]]
                answer = self._writes.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
                check_deleted(answer, f"cannot purge in {self.uri}", self._bucket)
            left = sorted(set(doomed).intersection(self._versions(prefix, keep))) if doomed else []
        if left:
            raise StoreError(
                f"{len(left)} version(s) are still listed in {self.uri} after the purge, such as {left[0][0]}"
            )

    def _versions(self, prefix: str, keep: Callable[[str], bool], *, markers: bool = True) -> Iterator[tuple[str, str]]:
        """(key, version) of all that is kept below the prefix; a bucket without versions has one, called "null"."""
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
    # A provider of one's own seldom has a host name for each bucket.
    style = {"addressing_style": "path"} if location.endpoint else {}
    config = Config(max_pool_connections=_CONNECTIONS, s3=style, **options)
    # A session holds S3's model, which takes long to read; making clients of one is not safe from several threads.
    with _making:
        return _session().client("s3", endpoint_url=location.endpoint or None, config=config)


_making = threading.Lock()


@functools.cache
def _session() -> boto3.session.Session:
    return boto3.session.Session()
