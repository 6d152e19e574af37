"""Previews of a generation: only for somebody who watches, and never at the images' cost."""

from collections.abc import Sequence
from typing import Any

import pytest

from service.blobs import store
from service.execution import checkpoints
from service.execution.leases import ClaimedJob
from service.jobs import live_previews
from service.jobs import use_cases as jobs
from service.jobs.views import EventPreviews
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.worker.staging import (
    OWNER,
    accept_generation,
    blob_keys,
    in_thread,
    look_at,
    runner_of,
    wait_until,
)
from worker import live_previews as module
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat
from worker.progress import PreviewBudget
from worker.runner import Runner


def image_of(service: Service, context: WorkerContext) -> bytes:
    """Generate an image; return its file."""
    job_id = accept_generation(service, num_inference_steps=20)
    Runner(context).run(Queue.GENERATE)
    [image] = look_at(service, job_id).images
    return jobs.read_image(service, OWNER, image_id=image.id).data


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody asks for previews all the time, and the device has time for them."""
    always = property(lambda _: True, lambda *_: None)
    monkeypatch.setattr(Heartbeat, "wants_previews", always, raising=False)
    monkeypatch.setattr(module, "_SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("worker.engine.waiting._POLL_SECONDS", 0.005)  # an image is quick
    monkeypatch.setattr("worker.progress._SHARE_OF_PREVIEWS", 1.0)


def test_a_follower_makes_the_worker_draw(service: Service, context: WorkerContext) -> None:
    def work(_: WorkerContext, __: ClaimedJob, heartbeat: Heartbeat) -> bool:
        wait_until(lambda: heartbeat.wants_previews)
        return True

    job_id = accept_generation(service)
    thread = in_thread(runner_of(context, work).run, Queue.GENERATE)
    wait_until(lambda: look_at(service, job_id).status is JobStatus.RUNNING)
    assert live_previews.watch(service, OWNER, job_id=job_id) is None
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.usefixtures("watched")
def test_previews_change_no_bit_of_an_image_and_go_with_the_end_of_its_job(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[bytes] = []
    save = checkpoints.save_live_previews

    def note(
        to: Service, claimed: ClaimedJob, *, first: bytes, each: Sequence[bytes | None]
    ) -> bool:
        drawn.extend([first, *filter(None, each)])
        return save(to, claimed, first=first, each=each)

    monkeypatch.setattr(checkpoints, "save_live_previews", note)
    watched = image_of(service, context)
    assert drawn and all(jpeg[:2] == b"\xff\xd8" for jpeg in drawn)
    assert [key for key in blob_keys(service) if "preview" in key] == []
    monkeypatch.undo()
    assert image_of(service, context) == watched


@pytest.mark.usefixtures("watched")
def test_every_image_that_is_sampled_has_a_small_preview_in_its_place(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[EventPreviews] = []
    save = checkpoints.save_live_previews

    def note(to: Service, claimed: ClaimedJob, **drawn: Any) -> bool:
        kept = save(to, claimed, **drawn)
        told = live_previews.watch(service, OWNER, job_id=claimed.id)
        assert told is not None
        events.append(told)
        return kept

    monkeypatch.setattr(checkpoints, "save_live_previews", note)
    seeds = {"axes": [{"field": "seed", "values": list(range(18))}]}
    for images, options in ((4, {"num_images": 4}), (18, {"sweep": seeds})):
        events.clear()
        accept_generation(service, num_inference_steps=40, **options)
        Runner(context).run(Queue.GENERATE)
        shown = [{k for k, url in enumerate(told.previews) if url} for told in events]
        assert {len(told.previews) for told in events} == {images}
        # A sweep's first 16 images are sampled, then its last two.
        first = set(range(min(images, 16)))
        assert all(each <= first or each.isdisjoint(first) for each in shown)
        assert set().union(*shown) == set(range(images))
        assert all(
            len(set(filter(None, told.previews))) == len(each)
            for told, each in zip(events, shown, strict=True)
        )
        for told in events:
            assert all(len(url) < 3 * 1024 for url in told.previews if url)
            assert len(told.model_dump_json()) < 64 * 1024


def test_nobody_asks_and_nothing_is_drawn(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(module, "estimates", lambda *_: drawn.append(1))
    image_of(service, context)
    assert not drawn


@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("broken", ["device", "store"])
def test_a_preview_that_fails_costs_no_image(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    failures = []

    def fail(*_: object, **__: object) -> None:
        failures.append(1)
        raise store.unavailable() if broken == "store" else RuntimeError("no")

    if broken == "device":
        monkeypatch.setattr(module, "estimates", fail)
    else:
        monkeypatch.setattr(checkpoints, "save_live_previews", fail)
    assert image_of(service, context)
    assert len(failures) == 1


def test_previews_of_all_jobs_together_take_two_per_cent_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("worker.progress.time.monotonic", lambda: now)
    budget = PreviewBudget()
    assert budget.take()
    assert not budget.take()  # one at a time
    budget.spent(0.1)
    now += 4.9
    assert not budget.take()
    now += 0.2
    assert budget.take()
