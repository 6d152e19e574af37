"""Blobs in an S3 bucket, under a prefix. Works with AWS and with the services that imitate it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.blobs import BlobInfo, BlobNotFound, check_key, check_prefix, unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})


class S3Blobs:
    """Blobs as objects `prefix/key` of one bucket."""

    def __init__(self, client: "S3Client", *, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`."""
        with _translated(key):
            self._client.put_object(Bucket=self._bucket, Key=self._name(key), Body=data)

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`, or raise BlobNotFound."""
        with _translated(key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._name(key))
            return answer["Body"].read()

    def delete(self, key: str) -> None:
        """Remove `key`; S3 does not mind when it is not there."""
        with _translated(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def delete_prefix(self, prefix: str) -> None:
        """Remove every key under the folder `prefix`."""
        if not prefix:
            raise ValueError("refusing to delete every blob")
        # One by one: bulk deletion is where the imitations of S3 differ most.
        for blob in list(self.list(prefix)):
            self.delete(blob.key)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Go through the blobs under the folder `prefix`."""
        start = self._prefix + check_prefix(prefix)
        with _translated(prefix):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=start):
                for item in page.get("Contents", []):
                    key = item["Key"].removeprefix(self._prefix)
                    yield BlobInfo(key, item["Size"], item["LastModified"])

    def check(self) -> None:
        """Raise Unavailable unless the bucket answers."""
        with _translated("bucket"):
            self._client.head_bucket(Bucket=self._bucket)

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)


def connect(url: str, *, endpoint_url: str | None, region: str) -> S3Blobs:
    """Return the blobs at `s3://bucket/prefix`; credentials come from the AWS_ variables."""
    # boto3 takes a while to import, and a deployment on local files never needs it.
    import boto3
    from botocore.config import Config

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    client = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        config=Config(
            signature_version="s3v4",
            connect_timeout=2,
            read_timeout=10,
            retries={"max_attempts": 2, "mode": "standard"},
            max_pool_connections=32,
            # Imitations of S3 do not know the newer default of trailing checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"} if endpoint_url else {},
        ),
    )
    return S3Blobs(client, bucket=bucket, prefix=prefix)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _MISSING and key != "bucket":
            raise BlobNotFound(key) from None
        raise unavailable() from error
    except BotoCoreError as error:
        raise unavailable() from error
