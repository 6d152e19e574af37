"""Processes of the previous release run on one database together with this release, and after it.

These are the upgrades of docs/operations.md, and the way back. The file `previous-release` names
the commit of the previous release. Both releases serve a base model of a few thousand random
weights.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.database.tables import ConceptRow, ImageRow, JobEventRow, JobRow, PictureRow
from service.statuses import TERMINAL
from tests.integration.stack import previous
from tests.integration.stack.deployment import wait_until
from tests.integration.stack.servers import Servers
from tests.integration.upgrade.releases import (
    Upgrade,
    draw,
    ended,
    everything,
    refused,
    succeed,
    teach,
)

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]
LAST_TO_READ_ONLY_FORMAT_1 = "c03775b12b5eea31e86e219d8f662d2c23b984c3"
COLLECT_EVERYTHING = """
from datetime import timedelta
from service import wiring
from service.garbage import collection
from service.settings import environment
print(collection.collect(wiring.build(environment.load()), grace=timedelta(0)))
"""


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

    # The old worker stops and gives its unfinished job back. The old API continues, even after a
    # restart, together with the new one. The new worker does the jobs of both.
    given_back = teach(old.api, "given-back", steps=250)
    wait_until(lambda: old.api.job(given_back)["progress"]["step"] > 5)
    assert old.worker.terminate() == 0
    new.api.start()
    old.api.process.terminate()
    old.api.start()
    new.start_worker()
    ended(old.api, given_back, teach(old.api, "by-old-api"), teach(new.api, "by-new-api"))
    # This release crops pictures around their object, so it cannot go on with the old state.
    assert '"training.state_refused"' in new.worker.log
    assert f"/jobs/{given_back}/preview" in everything(new.api)
    for api in (old.api, new.api):
        ended(api, draw(api, "<by-old-api>"), draw(api, "<by-new-api>"), draw(api, "<given-back>"))
        ended(api, draw(api, "<taught-before>"), draw(api, "<taught-across>"))
    assert everything(new.api, only=made_by_old) == made_by_old
    assert_each_job_ended_once(upgrade)

    # The way back: the previous release runs alone, and its collector keeps what rows name.
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

    # Forward again.
    old.stop()
    new.start()
    assert everything(new.api, only=before) == before
    ended(new.api, draw(new.api, "<by-new-api>"), draw(new.api, "<given-back-again>"))
    assert_each_job_ended_once(upgrade)


@pytest.mark.long
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
    old.start_worker()  # it was left running, or started by mistake
    job = new.api.wait_for(waiting)
    assert job["status"] == "failed" and job["images"] == []
    assert "has the format version '2'" in job["error"]["detail"]
    assert "this release reads version 1:" in job["error"]["detail"]
    with upgrade_to_format_2.service.database.read() as session:
        assert session.scalars(select(ImageRow).where(ImageRow.job_id == waiting)).all() == []

    # The old worker fails the job, but the concept stays usable.
    assert old.worker.terminate() == 0
    new.start_worker()
    ended(new.api, draw(new.api, "<of-the-new>"))


@pytest.mark.long
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
    assert '"training.state_refused"' in new.worker.log  # its state belongs to another base model
    ended(new.api, draw(new.api, "<given-back>"))
    for api in (old.api, new.api):
        refused(api, "<taught-before>")


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
            assert len(images) == job.payload.get("config", {}).get("num_images", 0)


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
