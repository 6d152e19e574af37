"""The code of the previous release, extracted once."""

from pathlib import Path

import pytest

from tests.integration.stack import previous


@pytest.fixture(scope="session")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return previous.extract(tmp_path_factory.mktemp("previous") / "code")
