"""Blobs in an S3 bucket, under a prefix. The store works with AWS and with S3-compatible services.

Every call has a time limit. After the store has failed to answer, calls fail at once for a short
time. Otherwise every call to a frozen store would block a thread until the call's time limit.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import structlog

from service.blobs.store import (
    BlobExists,
    BlobInfo,
    BlobNotFound,
    check_key,
    check_prefix,
    unavailable,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
# 412: the key exists. 409: another writer is storing this key at this moment.
_TAKEN = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict"})
_CONNECT_SECONDS = 2
# The limit between two bytes, not for the whole answer.
_READ_SECONDS = 5
_TRIES = 2
_PROBE_SECONDS = 2
_REST_SECONDS = 2.0
_log = structlog.get_logger()


class S3Blobs:
    """Blobs as objects `prefix/key` of one bucket."""

    def __init__(
        self, client: "S3Client", *, bucket: str, prefix: str, probe: "S3Client | None" = None
    ) -> None:
        """Use `client` for blobs; use `probe`, whose time limits are shorter, for `check`."""
        self._client = client
        self._probe = probe or client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._rests_until = 0.0

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`."""
        with self._guarded(key):
            self._client.put_object(Bucket=self._bucket, Key=self._name(key), Body=data)

    def put_new(self, key: str, data: bytes) -> None:
        """Store `data` under `key`; keep other bytes already there and raise BlobExists."""
        try:
            with self._guarded(key):
                self._client.put_object(
                    Bucket=self._bucket, Key=self._name(key), Body=data, IfNoneMatch="*"
                )
        except BlobExists:
            if self.get(key) != data:
                raise

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`, or raise BlobNotFound."""
        with self._guarded(key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
            return answer["Body"].read()

    def delete(self, key: str) -> None:
        """Remove `key`; S3 accepts a key that does not exist."""
        with self._guarded(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def delete_prefix(self, prefix: str) -> None:
        """Remove every key under the folder `prefix`."""
        if not prefix:
            raise ValueError("refusing to delete every blob")
        # One by one, because S3-compatible services differ most in bulk deletion.
        for blob in list(self.list(prefix)):
            self.delete(blob.key)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Go through the blobs under the folder `prefix`."""
        start = self._prefix + check_prefix(prefix)
        with self._guarded(prefix):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=start):
                for item in page.get("Contents", []):
                    key = item["Key"].removeprefix(self._prefix)
                    yield BlobInfo(key, item["Size"], item["LastModified"])

    def clear_unfinished(self, *, older_than: datetime) -> int:
        """Return 0, because an unfinished write leaves nothing in S3."""
        return 0

    def check(self) -> None:
        """Raise Unavailable unless the bucket answers."""
        with self._guarded(None):
            self._probe.head_bucket(Bucket=self._bucket)
        self._rests_until = 0.0

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    @contextmanager
    def _guarded(self, key: str | None) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        if key is not None and time.monotonic() < self._rests_until:
            raise unavailable()
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if key is not None and code in _MISSING:
                raise BlobNotFound(key) from None
            if key is not None and code in _TAKEN:
                raise BlobExists(key) from None
            # The cause may be a wrong bucket or access key, so the log must name it.
            _log.warning("blobs_refused", code=code)
            raise unavailable() from error
        except BotoCoreError as error:
            _log.warning("blobs_fault", error=type(error).__name__)
            self._rests_until = time.monotonic() + _REST_SECONDS
            raise unavailable() from error


def connect(url: str, *, endpoint_url: str | None, region: str) -> S3Blobs:
    """Return the blobs at `s3://bucket/prefix`; credentials come from the AWS_ variables."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = _client(endpoint_url, region, read_seconds=_READ_SECONDS, tries=_TRIES)
    probe = _client(endpoint_url, region, read_seconds=_PROBE_SECONDS, tries=1)
    return S3Blobs(client, bucket=bucket, prefix=prefix, probe=probe)


def _client(endpoint_url: str | None, region: str, *, read_seconds: int, tries: int) -> "S3Client":
    # boto3 takes a while to import, and a deployment on local files never needs it.
    import boto3
    from botocore.config import Config

    style: dict[str, Any] = {"addressing_style": "path"} if endpoint_url else {}
    return boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        config=Config(
            signature_version="s3v4",
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=read_seconds,
            retries={"total_max_attempts": tries, "mode": "standard"},
            max_pool_connections=32,
            # S3-compatible services may not support boto3's newer default, trailing checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3=style,  # type: ignore[arg-type]  # its type names every field
        ),
    )
