"""The formats of a concept's file: names, hashes and refusals."""

import hashlib
import io
import zipfile

import pytest
from safetensors.numpy import load
from starlette.testclient import TestClient

from api.routes import concepts as routes
from service.concepts import exports
from service.wiring import Service
from tests.unit.api.checks import pointers, refusal
from tests.unit.api.routes.test_concept_import import send_file
from tests.unit.service import staging

LORA = b"a LoRA of a worker"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_LONGEST_WAIT_SECONDS", 0.3)


def make_requested(service: Service) -> None:
    (export,) = exports.requested(service, base_model="base-1", covariance="cov-1", but=frozenset())
    exports.store(service, export, LORA)


@pytest.mark.parametrize(
    ("file_format", "ending", "media_type"),
    [
        ("perfusion", "safetensors", "application/octet-stream"),
        ("lora", "lora.safetensors", "application/octet-stream"),
        ("embedding", "embedding.safetensors", "application/octet-stream"),
        ("zip", "zip", "application/zip"),
    ],
)
def test_each_format_has_its_own_name_and_hash(
    client: TestClient, service: Service, teddy: str, file_format: str, ending: str, media_type: str
) -> None:
    url = f"/concepts/{teddy}/file?format={file_format}"
    if file_format in ("lora", "zip"):
        waits = refusal(client.get(url), 503, "export-not-made")
        assert "Ask again" in waits["detail"]
        make_requested(service)
    answer = client.get(url)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == f'attachment; filename="teddy.{ending}"'
    assert answer.headers["content-type"] == media_type
    tag = answer.headers["etag"]
    if file_format != "perfusion":  # whose hash the worker of these tests makes up
        assert tag == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    assert client.get(url, headers={"If-None-Match": tag}).status_code == 304


def test_what_comes_is_what_was_asked_for(client: TestClient, service: Service, teddy: str) -> None:
    client.get(f"/concepts/{teddy}/file?format=lora")
    make_requested(service)
    assert client.get(f"/concepts/{teddy}/file?format=lora").content == LORA
    assert list(load(client.get(f"/concepts/{teddy}/file?format=embedding").content)) == ["<teddy>"]
    packed = client.get(f"/concepts/{teddy}/file?format=zip").content
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.read("teddy.lora.safetensors") == LORA
        assert "<teddy>" in archive.read("README.md").decode()
    imported = send_file(client, packed, "teddy-2")
    assert imported.status_code == 201, imported.text
    assert imported.json()["superclass"] == client.get(f"/concepts/{teddy}").json()["superclass"]


def test_an_unknown_format_is_422_and_a_missing_base_model_409(
    client: TestClient, service: Service, teddy: str
) -> None:
    unknown = refusal(client.get(f"/concepts/{teddy}/file?format=ckpt"), 422)
    assert pointers(unknown) == {"/format"}
    staging.register_base_model(service, fingerprint="base-2")
    refusal(client.get(f"/concepts/{teddy}/file?format=lora"), 409, "base-model-mismatch")


def test_a_lora_as_concept_file_is_refused_with_what_it_is(client: TestClient, teddy: str) -> None:
    embedding = client.get(f"/concepts/{teddy}/file?format=embedding").content
    assert "is an embedding" in refusal(send_file(client, embedding), 422, "concept-file")["detail"]
