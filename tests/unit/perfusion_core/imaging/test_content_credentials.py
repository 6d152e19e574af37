"""Signed manifests, read back by C2PA's own reader with the test's authority as trust anchor."""

import io
import json
from pathlib import Path
from typing import Any

import c2pa
import pytest
from PIL import Image

from perfusion_core.errors import CredentialsError
from perfusion_core.imaging.content_credentials import ContentCredentials
from perfusion_core.imaging.provenance import EDITED_BY_A_MODEL, MADE_BY_A_MODEL
from tests.unit.perfusion_core.imaging import certificates
from tests.unit.perfusion_core.imaging.certificates import Certificates


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.write(tmp_path_factory.mktemp("certificates"))


def png(colour: tuple[int, int, int] = (9, 80, 20)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(file, "PNG")
    return file.getvalue()


def read(data: bytes, files: Certificates) -> dict[str, Any]:
    trust = {"trust": {"trust_anchors": files.authority.read_text()}}
    context = c2pa.Context(c2pa.Settings.from_dict(trust))
    found: dict[str, Any] = json.loads(
        c2pa.Reader("image/png", io.BytesIO(data), context=context).json()
    )
    return found


@pytest.mark.parametrize(
    ("edited", "source"), [(False, MADE_BY_A_MODEL), (True, EDITED_BY_A_MODEL)]
)
def test_a_signed_image_says_in_a_trusted_manifest_that_a_model_made_it(
    files: Certificates, edited: bool, source: str
) -> None:
    credentials = ContentCredentials(certificate=files.chain, private_key=files.key)
    signed = credentials.sign(png(), edited=edited)
    found = read(signed, files)
    assert found["validation_state"] == "Trusted"
    manifest = found["manifests"][found["active_manifest"]]
    (actions,) = manifest["assertions"]
    assert actions["data"]["actions"][0]["digitalSourceType"] == source
    assert Image.open(io.BytesIO(signed)).tobytes() == Image.open(io.BytesIO(png())).tobytes()


def test_a_signed_image_that_was_changed_is_found_out(files: Certificates) -> None:
    signed = ContentCredentials(certificate=files.chain, private_key=files.key).sign(
        png(), edited=False
    )
    at = signed.index(b"IDAT") + 8
    changed = signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :]
    assert read(changed, files)["validation_state"] == "Invalid"


def test_a_certificate_that_cannot_sign_is_refused_at_once(
    files: Certificates, tmp_path: Path
) -> None:
    other = certificates.write(tmp_path)
    for chain, key, words in (
        (files.chain, other.key, "must belong to the first certificate"),
        (files.key, files.key, "no chain of certificates"),
        (files.chain, tmp_path / "nowhere.pem", "cannot be read"),
    ):
        with pytest.raises(CredentialsError, match=words):
            ContentCredentials(certificate=chain, private_key=key)
