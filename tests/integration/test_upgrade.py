"""Run real processes of the previous release next to this one on one database, and after it.

This is "Upgrades" and "The way back" of docs/operations.md.

The previous release is the commit that the file `previous-release` names. Both serve a base model
of a few thousand random weights.
"""

import hashlib
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.database.tables import ConceptRow, ImageRow, JobEventRow, JobRow, PictureRow
from service.settings.environment import Settings
from service.views import TERMINAL
from tests.integration.stack import previous
from tests.integration.stack.deployment import Api, Deployment, ask_to_teach, wait_until
from tests.integration.stack.processes import Process
from tests.integration.stack.servers import Servers

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]
LAST_TO_READ_ONLY_FORMAT_1 = "c03775b12b5eea31e86e219d8f662d2c23b984c3"
COLLECT_EVERYTHING = """
from datetime import timedelta
from service import collector, settings, wiring
print(collector.collect(wiring.build(settings.load()), grace=timedelta(0)))
"""


@pytest.fixture(scope="module")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return previous.extract(tmp_path_factory.mktemp("previous") / "code")


@dataclass
class Release:
    """One release's processes: an API, a worker, and its command."""

    deployment: Deployment
    api: Api
    worker: Process

    def start(self) -> None:
        """Start both, and wait until they take and do work."""
        self.api.process.start()
        self.start_worker()
        self.api.process.wait_until(self.api.answers, what="it answered")
        self.api.process.wait_until(self.api.is_ready, what="it was ready")

    def start_worker(self) -> None:
        """Start the worker, and wait until it has its base model."""
        loaded = '"base_model.loaded"'
        before = self.worker.log.count(loaded) if self.worker.log_file.exists() else 0
        self.worker.start()
        self.worker.wait_until(
            lambda: self.worker.log.count(loaded) > before, what="its base model was loaded"
        )

    def stop(self) -> None:
        """SIGTERM to both; exit code 0."""
        assert self.worker.terminate() == 0, self.worker.log[-4000:]
        assert self.api.process.terminate() == 0, self.api.process.log[-4000:]


class Upgrade:
    """Two releases on one database, one queue and one store of blobs."""

    def __init__(self, folder: Path, servers: Servers, old_code: Path, tiny_base: Path) -> None:
        settings = {
            "base_model": tiny_base,
            "evaluator": "none",
            "lease_seconds": 10,
            "reconcile_seconds": 0.3,
            "checkpoint_seconds": 0.3,
        }
        environment = servers.new_deployment()
        self.old = _release(Deployment(folder / "old", environment, code=old_code, **settings))
        self.new = _release(Deployment(folder / "new", environment, **settings))
        self.service = self.new.deployment.service()

    def close(self) -> None:
        self.service.close()
        for release in (self.old, self.new):
            release.deployment.close()


def _release(deployment: Deployment) -> Release:
    deployment.folder.mkdir()
    return Release(deployment, deployment.api(), deployment.worker())


@pytest.fixture
def upgrade(tmp_path: Path, servers: Servers, old_code: Path, tiny_base: Path) -> Iterator[Upgrade]:
    upgrade = Upgrade(tmp_path, servers, old_code, tiny_base)
    yield upgrade
    upgrade.close()


@pytest.fixture
def upgrade_to_format_2(tmp_path: Path, servers: Servers, tiny_base: Path) -> Iterator[Upgrade]:
    old_code = previous.extract(tmp_path / "code", commit=LAST_TO_READ_ONLY_FORMAT_1)
    upgrade = Upgrade(tmp_path, servers, old_code, tiny_base)
    yield upgrade
    upgrade.close()


def test_the_workers_change_while_apis_of_both_releases_serve_one_database_there_and_back(
    upgrade: Upgrade,
) -> None:
    old, new = upgrade.old, upgrade.new
    # The previous release, on its own schema.
    succeed(old.deployment.python("-m", "api", "migrate"))
    old.start()
    ended(old.api, teach(old.api, "taught-before"))
    ended(old.api, draw(old.api, "<taught-before>"))
    made_by_old = everything(old.api)

    # This release migrates while a job of the previous one runs.
    running = teach(old.api, "taught-across", steps=60)
    wait_until(lambda: old.api.job(running)["status"] == "running")
    succeed(new.deployment.python("-m", "api", "migrate"))
    ended(old.api, running, draw(old.api, "<taught-before>"))

    # The old worker stops, and gives back what it does not finish. The old API goes on, also after
    # a restart, beside the new one; the new worker does the jobs of both.
    given_back = teach(old.api, "given-back", steps=250)
    wait_until(lambda: old.api.job(given_back)["progress"]["step"] > 5)
    assert old.worker.terminate() == 0
    new.api.start()
    old.api.process.terminate()
    old.api.start()
    new.start_worker()
    ended(old.api, given_back, teach(old.api, "by-old-api"), teach(new.api, "by-new-api"))
    assert '"training.resumed"' in new.worker.log
    assert f"/jobs/{given_back}/preview" in everything(new.api)
    for api in (old.api, new.api):
        ended(api, draw(api, "<by-old-api>"), draw(api, "<by-new-api>"), draw(api, "<given-back>"))
        ended(api, draw(api, "<taught-before>"), draw(api, "<taught-across>"))
    assert everything(new.api, only=made_by_old) == made_by_old
    assert_each_job_ended_once(upgrade)

    # Back: the previous release alone, on its own concepts, and its collector leaves the rest.
    before = everything(new.api)
    waiting = teach(new.api, "given-back-again", steps=250)
    wait_until(lambda: new.api.job(waiting)["progress"]["step"] > 5)
    new.stop()
    succeed(old.deployment.python("-m", "api", "migrate"))
    old.start_worker()
    ended(old.api, waiting, draw(old.api, "<taught-across>"))
    ended(old.api, draw(old.api, "<given-back-again>"), draw(old.api, "<by-new-api>"))
    collected = succeed(old.deployment.python("-c", COLLECT_EVERYTHING))
    assert re.fullmatch(r"\d+\n", collected.splitlines(True)[-1])
    assert_every_named_blob_is_there(upgrade)
    assert everything(old.api, only=before) == before

    # And forward again.
    old.stop()
    new.start()
    assert everything(new.api, only=before) == before
    ended(new.api, draw(new.api, "<by-new-api>"), draw(new.api, "<given-back-again>"))
    assert_each_job_ended_once(upgrade)


def test_an_old_worker_that_meets_a_file_of_format_2_fails_the_job_and_draws_nothing(
    upgrade_to_format_2: Upgrade,
) -> None:
    old, new = upgrade_to_format_2.old, upgrade_to_format_2.new
    succeed(new.deployment.python("-m", "api", "migrate"))
    new.start()
    ended(new.api, teach(new.api, "of-the-new"))
    ended(new.api, draw(new.api, "<of-the-new>"))
    assert new.worker.terminate() == 0
    waiting = draw(new.api, "<of-the-new>")
    old.start_worker()  # left in place, or started by mistake
    job = new.api.wait_for(waiting)
    assert job["status"] == "failed" and job["images"] == []
    assert "has the format version '2'" in job["error"]["detail"]
    assert "this release reads version 1:" in job["error"]["detail"]
    with upgrade_to_format_2.service.database.read() as session:
        assert session.scalars(select(ImageRow).where(ImageRow.job_id == waiting)).all() == []

    # The job was the old worker's to lose; the concept is not.
    assert old.worker.terminate() == 0
    new.start_worker()
    ended(new.api, draw(new.api, "<of-the-new>"))


def test_what_was_made_before_fingerprints_changed_is_refused_and_a_training_begins_anew(
    upgrade_to_format_2: Upgrade,
) -> None:
    old, new = upgrade_to_format_2.old, upgrade_to_format_2.new
    succeed(old.deployment.python("-m", "api", "migrate"))
    old.start()
    ended(old.api, teach(old.api, "taught-before"))
    given_back = teach(old.api, "given-back", steps=250)
    wait_until(lambda: old.api.job(given_back)["progress"]["step"] > 5)
    assert old.worker.terminate() == 0
    succeed(new.deployment.python("-m", "api", "migrate"))
    new.start()
    ended(new.api, given_back)
    assert '"training.state_refused"' in new.worker.log  # another base model's
    ended(new.api, draw(new.api, "<given-back>"))
    for api in (old.api, new.api):
        refused(api, "<taught-before>")


def succeed(done: Any) -> str:
    """The output of a command that did what was asked."""
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def teach(api: Api, name: str, *, steps: int = 3) -> str:
    return ask_to_teach(api.http, name, steps=steps)


def draw(api: Api, prompt: str, *, steps: int = 2) -> str:
    request = {"prompt": prompt, "num_inference_steps": steps, "seed": 7, "num_images": 2}
    request["attention_maps"] = True
    answer = api.http.post("/generate", json=request)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job"]["id"])


def ended(api: Api, *job_ids: str) -> bool:
    """Wait until all have succeeded."""
    for job_id in job_ids:
        job = api.wait_for(job_id)
        assert job["status"] == "succeeded", job["error"]
    return True


def refused(api: Api, prompt: str) -> None:
    """Ask with a concept of the other release's base model: refused, and nothing is queued."""
    answer = api.http.post("/generate", json={"prompt": prompt})
    assert answer.status_code == 409, answer.text
    assert answer.json()["type"] == "/problems/base-model-mismatch"


def everything(api: Api, *, only: dict[str, str] | None = None) -> dict[str, str]:
    """Hashes of all concepts' files, images, attention maps and previews, by where they are."""
    if only is not None:
        return {path: _hash(api, path) for path in only}
    found = {}
    for concept in api.http.get("/concepts", params={"limit": 100}).json()["items"]:
        if concept["status"] == "ready":
            found[f"/concepts/{concept['name']}/file"] = ""
    for job in api.http.get("/jobs", params={"limit": 100}).json()["items"]:
        preview = f"/jobs/{job['id']}/preview"
        if api.http.get(preview).status_code == 200:
            found[preview] = ""
        for image in job["images"]:
            found[image["url"]] = ""
            found |= {shown["url"]: "" for shown in image["attention_maps"]}
    assert found
    return everything(api, only=found)


def _hash(api: Api, path: str) -> str:
    answer = api.http.get(path)
    assert answer.status_code == 200, f"{path}: {answer.text}"
    return hashlib.sha256(answer.content).hexdigest()


def assert_each_job_ended_once(upgrade: Upgrade) -> None:
    with upgrade.service.database.read() as session:
        for job in session.scalars(select(JobRow)):
            events = session.scalars(
                select(JobEventRow.to_status).where(JobEventRow.job_id == job.id)
            )
            assert [status for status in events if status in set(TERMINAL)] == [job.status]
            images = session.scalars(
                select(ImageRow.position).where(ImageRow.job_id == job.id)
            ).all()
            assert len(images) == len(job.payload.get("seeds", []))


def assert_every_named_blob_is_there(upgrade: Upgrade) -> None:
    with upgrade.service.database.read() as session:
        named = list(_named(session))
    assert len(named) > 40
    for key in named:
        upgrade.service.blobs.get(key)  # would raise BlobNotFound


def _named(session: Session) -> Iterator[str]:
    for concept in session.scalars(select(ConceptRow)):
        assert concept.blob_key is not None
        yield concept.blob_key
    for picture in session.scalars(select(PictureRow)):
        yield picture.blob_key
    for image in session.scalars(select(ImageRow)):
        yield image.blob_key
        for shown in image.attention_maps or []:
            yield shown["blob_key"]


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
    """`perfusion serve` with all of its parts in one process, until SIGTERM."""
    api = deployment.api()
    api.start()
    api.process.wait_until(api.is_ready, what="it was ready")
    yield api
    assert api.process.terminate() == 0, api.process.log[-4000:]


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[Deployment]:
    """A migrated SQLite database, and a queue elsewhere, so that `serve` needs no worker."""
    deployment = Deployment(tmp_path, {"PERFUSION_QUEUE_URL": "redis://127.0.0.1:9/0"})
    deployment.environment["PERFUSION_DATABASE_URL"] = f"sqlite:///{tmp_path}/perfusion.db"
    deployment.migrate()
    yield deployment
    deployment.close()


def test_a_release_runs_on_a_newer_compatible_schema_and_says_so(newer: Deployment) -> None:
    write(newer, "UPDATE compatible_version SET version_num = 'c9999'")
    migrated = newer.python("-m", "api", "migrate")
    assert migrated.returncode == 0
    assert '"database.newer"' in migrated.stderr
    api = newer.api()
    api.start()
    assert api.http.get("/jobs").status_code == 200
    assert '"database.newer"' in api.process.log
    assert read(newer, "SELECT version_num FROM compatible_version") == ["c9999"]


def test_a_release_refuses_a_newer_schema_that_it_cannot_run_on_and_says_what_to_do(
    newer: Deployment,
) -> None:
    write(newer, "UPDATE alembic_version SET version_num = '0099'")
    for command in ("migrate", "serve"):
        for queue_url in ("redis://127.0.0.1:9/0", "memory://"):
            done = newer.python("-m", "api", command, queue_url=queue_url)
            assert done.returncode == 1
            assert "belongs to a newer release" in done.stderr
            assert "Start the newer release again" in done.stderr
            assert "Traceback" not in done.stderr
    assert read(newer, "SELECT version_num FROM alembic_version") == ["0099"]


def test_the_previous_release_starts_with_the_settings_of_this_one(
    tmp_path: Path, old_code: Path
) -> None:
    names = "from service.settings import Settings; print(*Settings.model_fields)"
    old = Deployment(tmp_path, {}, code=old_code)
    unknown = set(Settings.model_fields) - set(succeed(old.python("-c", names)).split())
    unknown.add("of_a_later_release")
    load = "from service import settings; settings.load()"
    succeed(old.python("-c", load, **dict.fromkeys(unknown, "1")))


def test_a_clone_without_the_previous_release_is_told_what_to_do(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    with pytest.raises(RuntimeError, match="needs the whole history: run `git fetch --unshallow`"):
        previous.extract(tmp_path / "code", repository=tmp_path)


def write(deployment: Deployment, statement: str) -> None:
    with closing(sqlite3.connect(_file(deployment))) as database:
        database.execute(statement)
        database.commit()


def read(deployment: Deployment, question: str) -> list[str]:
    with closing(sqlite3.connect(_file(deployment))) as database:
        return [row[0] for row in database.execute(question)]


def _file(deployment: Deployment) -> str:
    return deployment.environment["PERFUSION_DATABASE_URL"].removeprefix("sqlite:///")
