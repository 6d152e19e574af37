"""Settings to what image files say."""

from pathlib import Path

import pytest

from perfusion_core.errors import CredentialsError
from service.settings import environment
from tests.unit.perfusion_core.imaging import certificates
from worker.metadata import metadata_of


def test_files_are_signed_only_where_both_certificate_and_key_are_given(tmp_path: Path) -> None:
    files = certificates.write(tmp_path)
    both = {
        "PERFUSION_C2PA_CERTIFICATE": str(files.chain),
        "PERFUSION_C2PA_KEY": str(files.key),
    }
    assert metadata_of(environment.load(both)).credentials is not None
    assert metadata_of(environment.load({})).credentials is None
    for name, value in both.items():
        with pytest.raises(CredentialsError, match="belong together"):
            metadata_of(environment.load({name: value}))


def test_prompts_are_left_out_where_the_deployment_says_so() -> None:
    assert metadata_of(environment.load({})).prompts
    assert not metadata_of(environment.load({"PERFUSION_METADATA_PROMPTS": "false"})).prompts
