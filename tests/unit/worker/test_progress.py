"""What jobs tell about their phases and the seconds left."""

import itertools
from threading import Event

import pytest

from service.statuses import Phase, Queue
from service.wiring import Service
from tests.unit.worker.staging import accept_generation, accept_training, claim
from worker.context import WorkerContext
from worker.heartbeat import Heartbeat
from worker.progress import AfterSampling, GenerationProgress
from worker.runner import Runner


def test_jobs_enter_their_phases_in_order(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[Phase] = []
    monkeypatch.setattr(Heartbeat, "enter", lambda _, phase: entered.append(phase))

    def phases_of(queue: Queue) -> list[str]:
        entered.clear()
        Runner(context).run(queue)
        return [phase.value for phase, _ in itertools.groupby(entered)]

    accept_generation(service)
    assert phases_of(Queue.GENERATE) == ["preparing", "sampling", "evaluating", "saving"]
    accept_training(service)
    assert phases_of(Queue.TRAIN) == ["preparing", "training", "evaluating", "saving"]


def test_a_generation_whose_steps_are_done_is_not_said_to_end_now(service: Service) -> None:
    claimed = claim(service, accept_generation(service))
    after_sampling = AfterSampling()

    def reported() -> tuple[GenerationProgress, float | None]:
        heartbeat = Heartbeat(service, claimed, leave=Event(), broken=Event())
        progress = GenerationProgress(
            heartbeat, steps=4, images=1, pixels=100, after_sampling=after_sampling
        )
        progress.begin(1)(4, 4)
        told = heartbeat.progress()
        assert told is not None
        return progress, told.eta_seconds

    progress, eta_seconds = reported()
    assert eta_seconds is None  # nothing is measured yet
    after_sampling.record(50, 1.5)
    assert reported()[1] == 3.0
    progress.saved()
    progress.end()
    assert 0 <= (after_sampling.seconds(100) or -1) < 3.0


def test_the_progress_of_images_that_are_begun_in_portions_only_rises(service: Service) -> None:
    claimed = claim(service, accept_generation(service))
    heartbeat = Heartbeat(service, claimed, leave=Event(), broken=Event())
    progress = GenerationProgress(
        heartbeat, steps=4, images=3, pixels=100, after_sampling=AfterSampling()
    )
    told = []
    for images, total in ((2, 8), (1, 4)):
        report = progress.begin(images)
        for done in range(1, total + 1):
            report(done, total)
            now = heartbeat.progress()
            assert now is not None
            told.append(now.step)
        progress.saved()
    assert told == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4]
