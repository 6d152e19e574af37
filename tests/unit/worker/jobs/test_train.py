"""A training job: progress, previews, a state to go on from, and one concept file."""

import io
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.training import trainer
from perfusion_core.training.trainer import Training
from service.blobs import keys, store
from service.blobs.store import BlobNotFound
from service.concepts import use_cases as concepts
from service.database.tables import JobRow
from service.errors import NotFound
from service.jobs import use_cases as jobs
from service.statuses import ConceptStatus, JobStatus, Queue
from service.wiring import Service
from tests.unit.perfusion_core.conftest import drawing
from tests.unit.worker.staging import (
    OWNER,
    accept_training,
    blob_keys,
    events,
    in_thread,
    look_at,
    wait_until,
)
from worker.context import WorkerContext
from worker.runner import Runner


def trained_file(service: Service, name: str = "rex") -> bytes:
    return concepts.read_file(service, OWNER, ref=name).data


def drain_after(service: Service, context: WorkerContext, job_id: str, *, steps: int) -> Thread:
    thread = in_thread(Runner(context).run, Queue.TRAIN)
    wait_until(lambda: look_at(service, job_id).progress.step >= steps)
    context.draining.set()
    thread.join(60)
    return thread


def test_a_training_sees_the_crops_that_its_owner_asked_for(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.jobs import train as module

    seen: list[Image.Image] = []

    def train(*given: Any, **options: Any) -> Training:
        training = trainer.train(*given, **options)
        seen.extend(training.examples.squares)
        return training

    monkeypatch.setattr(module, "train", train)
    accept_training(service, crop=(16, 16, 40, 40))
    Runner(context).run(Queue.TRAIN)
    [square] = seen
    assert square.tobytes() == drawing().crop((16, 16, 56, 56)).tobytes()


def test_a_training_ends_with_a_ready_concept_and_its_file(
    service: Service, context: WorkerContext, base: BaseModel
) -> None:
    job_id = accept_training(service, max_train_steps=4)
    Runner(context).run(Queue.TRAIN)
    job = look_at(service, job_id)
    assert (job.status, job.progress.step, job.progress.total_steps) == (JobStatus.SUCCEEDED, 4, 4)
    view = concepts.get(service, OWNER, ref="rex")
    assert view.status is ConceptStatus.READY
    assert view.mask_source == "uniform"
    assert view.training["max_train_steps"] == 4
    concept = Concept.from_bytes(trained_file(service))
    base.check(concept)
    assert (concept.name, concept.superclass) == ("rex", "robot")
    assert blob_keys(service, keys.job_prefix(job_id)) == [f"jobs/{job_id}/1/concept.safetensors"]


def test_a_drained_training_goes_on_from_its_state_and_ends_with_the_same_concept(
    service: Service, make_context: Callable[[], WorkerContext]
) -> None:
    accept_training(service, name="whole", max_train_steps=16)
    Runner(make_context()).run(Queue.TRAIN)
    job_id = accept_training(service, name="interrupted", max_train_steps=16)
    drain_after(service, make_context(), job_id, steps=3)
    drained = look_at(service, job_id)
    assert drained.status is JobStatus.QUEUED
    assert drained.progress.step < 16
    assert service.blobs.get(keys.state_key(job_id, 1))
    second = make_context()
    Runner(second).run(Queue.TRAIN)
    assert look_at(service, job_id).status is JobStatus.SUCCEEDED
    interrupted = Concept.from_bytes(trained_file(service, "interrupted"))
    expected = Concept.from_bytes(trained_file(service, "whole"))
    assert np.array_equal(interrupted.o_v, expected.o_v)
    assert np.array_equal(interrupted.i_star, expected.i_star)
    assert np.array_equal(interrupted.embeddings, expected.embeddings)
    with pytest.raises(BlobNotFound):
        service.blobs.get(keys.state_key(job_id, 1))


def test_a_drain_spends_no_attempt(
    service: Service, make_context: Callable[[], WorkerContext]
) -> None:
    job_id = accept_training(service, max_train_steps=5000)
    for round_ in range(service.settings.max_attempts + 1):
        drain_after(service, make_context(), job_id, steps=round_ + 1)
        assert look_at(service, job_id).status is JobStatus.QUEUED
    assert {status for status, _ in events(service, job_id)} == {"queued", "running"}


def test_a_drain_while_the_store_is_away_is_a_drain_and_no_fault(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(key: str, data: bytes) -> None:
        raise store.unavailable()

    job_id = accept_training(service, max_train_steps=5000)
    monkeypatch.setattr(service.blobs, "put", away)
    drain_after(service, context, job_id, steps=2)
    with service.database.read() as session:
        job = session.get_one(JobRow, job_id)
    assert (job.status, job.attempts_spent, job.faulted_at) == (JobStatus.QUEUED, 0, None)


def test_the_state_is_saved_now_and_then_while_training(
    make_service: Callable[..., Service], base: BaseModel
) -> None:
    service = make_service(checkpoint_seconds=0.1)
    from worker import context as composition

    context = composition.build(service, base=base)
    context.model_loader.start()
    context.engine.start()
    job_id = accept_training(service, max_train_steps=5000)
    thread = in_thread(Runner(context).run, Queue.TRAIN)
    wait_until(lambda: keys.state_key(job_id, 1) in blob_keys(service))
    jobs.cancel(service, OWNER, job_id=job_id)
    thread.join(60)
    context.engine.stop()
    assert look_at(service, job_id).status is JobStatus.CANCELLED


def test_a_state_that_cannot_be_used_costs_time_but_not_the_job(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_training(service)
    service.blobs.put(keys.previous_state_key(job_id), b"of another release")
    Runner(context).run(Queue.TRAIN)
    assert look_at(service, job_id).status is JobStatus.SUCCEEDED


def test_a_preview_shows_the_concept_while_it_is_trained(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_training(service, max_train_steps=5000, train_batch_size=8)
    thread = in_thread(Runner(context).run, Queue.TRAIN)

    def preview() -> bytes:
        with suppress(NotFound):
            return jobs.preview(service, OWNER, job_id=job_id)
        return b""

    wait_until(lambda: bool(preview()), timeout_seconds=120)
    file = preview()
    jobs.cancel(service, OWNER, job_id=job_id)
    thread.join(60)
    assert file.startswith(b"\x89PNG")


def test_a_picture_that_is_gone_is_a_named_problem(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_training(service)
    concept_id = look_at(service, job_id).concept_id
    assert concept_id is not None
    service.blobs.delete(keys.picture_key(concept_id, 0))
    Runner(context).run(Queue.TRAIN)
    error = look_at(service, job_id).error
    assert error is not None
    assert error.type == "/problems/file-gone"
    assert concepts.get(service, OWNER, ref="rex").status is ConceptStatus.FAILED


def test_alpha_serves_as_the_mask_through_the_whole_chain(
    service: Service, context: WorkerContext
) -> None:
    job_id = accept_training(service)
    concept_id = look_at(service, job_id).concept_id
    assert concept_id is not None
    picture = Image.new("RGBA", (64, 64), (200, 30, 30, 0))
    picture.paste((200, 30, 30, 255), (16, 16, 48, 48))
    file = io.BytesIO()
    picture.save(file, "PNG")
    service.blobs.put(keys.picture_key(concept_id, 0), file.getvalue())
    Runner(context).run(Queue.TRAIN)
    assert concepts.get(service, OWNER, ref="rex").mask_source == "alpha"
