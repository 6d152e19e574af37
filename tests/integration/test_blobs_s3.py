"""Behaviour that only an S3 server shows: pages, refusals, and a frozen store."""

import time

import boto3
import httpx2 as httpx
import pytest

from service.blobs import s3 as blobs_s3
from service.blobs.s3 import S3Blobs
from service.errors import Unavailable
from tests.integration.stack.servers import S3

pytestmark = pytest.mark.servers


def test_more_blobs_than_one_page_are_all_listed(s3_blobs: S3Blobs) -> None:
    keys = {f"jobs/j/{n}" for n in range(12)}
    for key in keys:
        s3_blobs.put(key, b"")
    s3_blobs._client.meta.events.register(  # as if a page held five keys
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: {**params, "MaxKeys": 5}
    )
    assert {blob.key for blob in s3_blobs.list("jobs/")} == keys


def test_without_a_key_nobody_reads_a_file(s3_blobs: S3Blobs, s3: S3) -> None:
    s3_blobs.put("jobs/j1/1/0.png", b"image")
    address = s3_blobs._client.generate_presigned_url(
        "get_object",
        Params={"Bucket": s3_blobs._bucket, "Key": s3_blobs._name("jobs/j1/1/0.png")},
    )
    with httpx.Client(trust_env=False) as client:
        assert client.get(address).content == b"image"
        assert client.get(address.partition("?")[0]).status_code == 403


def test_a_wrong_secret_is_unavailable_and_says_nothing_to_callers(
    s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it has cached other credentials
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
