"""One behaviour, two stores: a local folder and a real S3 server."""

import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx2 as httpx
import pytest

from service import blobs_s3
from service.blobs import BlobExists, BlobNotFound, Blobs
from service.blobs_local import LocalBlobs
from service.blobs_s3 import S3Blobs
from service.errors import Unavailable
from tests.integration.servers import S3

pytestmark = pytest.mark.servers


@pytest.fixture
def s3_blobs(s3: S3, monkeypatch: pytest.MonkeyPatch) -> S3Blobs:
    for name, value in s3.credentials.items():
        monkeypatch.setenv(name, value)
    return blobs_s3.connect(s3.new_prefix(), endpoint_url=s3.endpoint_url, region="us-east-1")


@pytest.fixture(params=["folder", "S3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Blobs]:
    yield LocalBlobs(tmp_path) if request.param == "folder" else request.getfixturevalue("s3_blobs")


def test_what_was_put_is_there_until_it_is_deleted(blobs: Blobs) -> None:
    blobs.put("jobs/j1/preview.png", b"one")
    blobs.put("jobs/j1/preview.png", b"two")
    assert blobs.get("jobs/j1/preview.png") == b"two"
    blobs.delete("jobs/j1/preview.png")
    blobs.delete("jobs/j1/preview.png")
    with pytest.raises(BlobNotFound):
        blobs.get("jobs/j1/preview.png")
    blobs.check()


def test_what_a_row_names_is_never_replaced(blobs: Blobs) -> None:
    blobs.put_new("jobs/j1/1/0.png", b"result")
    blobs.put_new("jobs/j1/1/0.png", b"result")  # the answer to the first try was lost
    with pytest.raises(BlobExists):
        blobs.put_new("jobs/j1/1/0.png", b"another")
    assert blobs.get("jobs/j1/1/0.png") == b"result"


def test_a_folder_is_listed_and_deleted_alone(blobs: Blobs) -> None:
    keys = ["jobs/j1/1/0.png", "jobs/j1/state.safetensors", "jobs/j10/1/0.png"]
    for key in keys:
        blobs.put(key, key.encode())
    assert sorted(blob.key for blob in blobs.list("jobs/j1/")) == keys[:2]
    assert {blob.size_bytes for blob in blobs.list("jobs/j10/")} == {len(keys[2])}
    blobs.delete_prefix("jobs/j1/")
    assert [blob.key for blob in blobs.list()] == keys[2:]
    with pytest.raises(ValueError, match="every blob"):
        blobs.delete_prefix("")


def test_more_blobs_than_one_page_are_all_listed(s3_blobs: S3Blobs) -> None:
    keys = {f"jobs/j/{n}" for n in range(12)}
    for key in keys:
        s3_blobs.put(key, b"")
    s3_blobs._client.meta.events.register(  # as if the store gave five at a time
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 5}
    )
    assert {blob.key for blob in s3_blobs.list("jobs/")} == keys


def test_without_a_key_nobody_reads_a_file(s3_blobs: S3Blobs, s3: S3) -> None:
    s3_blobs.put("jobs/j1/1/0.png", b"image")
    address = s3_blobs._client.generate_presigned_url(
        "get_object",
        Params={"Bucket": s3_blobs._bucket, "Key": s3_blobs._name("jobs/j1/1/0.png")},
    )
    with httpx.Client(trust_env=False) as anybody:
        assert anybody.get(address).content == b"image"
        assert anybody.get(address.partition("?")[0]).status_code == 403


def test_a_wrong_secret_is_unavailable_and_says_nothing_to_callers(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # which has read them before
    stranger = blobs_s3.connect(s3.new_prefix(), endpoint_url=s3.endpoint_url, region="us-east-1")
    for use in (stranger.check, lambda: stranger.put("a", b""), lambda: stranger.get("a")):
        with pytest.raises(Unavailable) as caught:
            use()
        assert "wrong" not in str(caught.value)


def test_a_frozen_store_costs_one_bounded_wait_and_then_none(s3_blobs: S3Blobs, s3: S3) -> None:
    s3_blobs.put("a", b"x")
    s3.process.freeze()
    try:
        waits = []
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(Unavailable):
                s3_blobs.get("a")
            waits.append(time.monotonic() - began)
    finally:
        s3.process.thaw()
    assert waits[0] < 15
    assert max(waits[1:]) < 0.5
    time.sleep(2.1)
    assert s3_blobs.get("a") == b"x"
