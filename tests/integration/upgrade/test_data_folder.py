"""The previous release runs on the data folder and with the settings of this release."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.settings.environment import Settings
from tests.integration.stack import previous
from tests.integration.stack.deployment import Api, Deployment
from tests.integration.upgrade.releases import draw, ended, everything, succeed, teach

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]


def test_a_data_folder_goes_to_the_previous_release_and_back_with_all_that_is_in_it(
    tmp_path: Path, old_code: Path, tiny_base: Path
) -> None:
    settings = {"base_model": tiny_base, "evaluator": "none", "data_dir": tmp_path / "data"}
    new = Deployment(tmp_path, {}, **settings)
    old = Deployment(tmp_path, {}, code=old_code, **settings)
    try:
        with _serving(new) as api:
            ended(api, teach(api, "of-the-new"))
            ended(api, draw(api, "<of-the-new>"))
            made_by_new = everything(api)
        with _serving(old) as api:
            assert everything(api, only=made_by_new) == made_by_new
            ended(api, teach(api, "of-the-old"))
            ended(api, draw(api, "<of-the-old>"), draw(api, "<of-the-new>"))
            made_by_both = everything(api)
        with _serving(new) as api:
            assert everything(api, only=made_by_both) == made_by_both
            ended(api, draw(api, "<of-the-new>"), draw(api, "<of-the-old>"))
    finally:
        new.close()
        old.close()


@contextmanager
def _serving(deployment: Deployment) -> Iterator[Api]:
    """Run `perfusion serve` with everything in one process, and end it by SIGTERM."""
    api = deployment.api()
    api.start()
    api.process.wait_until(api.is_ready, what="it was ready")
    yield api
    assert api.process.terminate() == 0, api.process.log[-4000:]


def test_the_previous_release_starts_with_the_settings_of_this_one(
    tmp_path: Path, old_code: Path
) -> None:
    names = "from service.settings.environment import Settings; print(*Settings.model_fields)"
    old = Deployment(tmp_path, {}, code=old_code)
    unknown = set(Settings.model_fields) - set(succeed(old.python("-c", names)).split())
    unknown.add("of_a_later_release")
    load = "from service.settings import environment; environment.load()"
    succeed(old.python("-c", load, **dict.fromkeys(unknown, "1")))


def test_a_clone_without_the_previous_release_is_told_what_to_do(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    with pytest.raises(RuntimeError, match="needs the whole history: run `git fetch --unshallow`"):
        previous.extract(tmp_path / "code", repository=tmp_path)
