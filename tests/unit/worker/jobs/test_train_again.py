"""A concept that is trained a second time, by a real worker on a tiny base model."""

from collections.abc import Callable, Iterator

import pytest

from perfusion_core.base_model import BaseModel
from service.concepts import trainings, versions
from service.concepts import use_cases as concepts
from service.jobs import use_cases as jobs
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.worker.staging import (
    OWNER,
    accept_generation,
    accept_training,
    look_at,
    noise_model,
    workers,
)
from worker.context import WorkerContext
from worker.runner import Runner


@pytest.fixture(scope="module")
def noise() -> BaseModel:
    return noise_model()


@pytest.fixture
def context(service: Service, noise: BaseModel) -> Iterator[WorkerContext]:
    with workers(service, noise) as make:
        yield make()


@pytest.fixture
def train_again(service: Service, context: WorkerContext) -> Callable[..., str]:
    """Trains rex again, to the end; returns the job's id."""

    def train(**training: object) -> str:
        options = {"max_train_steps": 3, "train_batch_size": 1, **training}
        answer = trainings.train_again(service, OWNER, ref="rex", training=options)
        job_id = str(answer.body["job"]["id"])
        Runner(context).run(Queue.TRAIN)
        assert look_at(service, job_id).status is JobStatus.SUCCEEDED
        return job_id

    return train


def drawn(service: Service, job_id: str) -> bytes:
    job = look_at(service, job_id)
    assert job.status is JobStatus.SUCCEEDED, job.error
    return jobs.read_image(service, OWNER, image_id=job.images[0].id).data


def test_a_second_training_replaces_the_file_and_the_first_one_comes_back(
    service: Service, context: WorkerContext, train_again: Callable[..., str]
) -> None:
    accept_training(service)
    Runner(context).run(Queue.TRAIN)
    first = concepts.read_file(service, OWNER, ref="rex")
    job_id = train_again(seed=99)
    second = concepts.read_file(service, OWNER, ref="rex")
    assert first.data != second.data
    view = concepts.get(service, OWNER, ref="rex")
    assert (view.job_id, view.training["seed"], view.revision) == (job_id, 99, 2)
    versions.revert(service, OWNER, ref="rex")
    assert concepts.read_file(service, OWNER, ref="rex") == first


def test_a_request_that_waited_through_a_replacement_is_drawn_with_the_file_it_was_accepted_with(
    service: Service, context: WorkerContext, train_again: Callable[..., str]
) -> None:
    accept_training(service)
    Runner(context).run(Queue.TRAIN)
    at_once = accept_generation(service, "a photo of a <rex>")
    Runner(context).run(Queue.GENERATE)
    waiting = accept_generation(service, "a photo of a <rex>")
    train_again(seed=99, learning_rate=0.5)
    after = accept_generation(service, "a photo of a <rex>")
    Runner(context).run(Queue.GENERATE)
    assert drawn(service, waiting) == drawn(service, at_once)
    assert drawn(service, after) != drawn(service, at_once)


def test_a_request_that_waited_through_two_replacements_says_what_happened(
    service: Service, context: WorkerContext, train_again: Callable[..., str]
) -> None:
    accept_training(service)
    Runner(context).run(Queue.TRAIN)
    waiting = accept_generation(service, "a photo of a <rex>")
    train_again(seed=98)
    train_again(seed=99)
    Runner(context).run(Queue.GENERATE)
    error = look_at(service, waiting).error
    assert error is not None
    assert error.type == "/problems/file-gone"
    assert "trained again twice" in error.detail
