"""Previews take a tenth of the training's time at most, and fail without harm."""

import time
from dataclasses import replace
from threading import Event, Thread

import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.training.trainer import Training, train
from service.blobs import keys
from service.wiring import Service
from tests.unit.perfusion_core.conftest import drawing
from tests.unit.worker.staging import accept_training, blob_keys, claim
from worker.context import WorkerContext
from worker.errors import CancelRequested
from worker.jobs.previews import Previews


def training_of(base: BaseModel, *, steps: int) -> Training:
    config = base.defaults.train_config({"max_train_steps": steps, "train_batch_size": 8})
    training = train(base, [drawing()], name="rex", superclass="robot", config=config)
    training.step = steps // 2  # as if it had come so far
    return training


def never(on_device: bool) -> None:
    """Nobody asks the training to stop."""


def test_a_preview_is_drawn_only_while_previews_cost_less_than_their_share(
    service: Service, context: WorkerContext, base: BaseModel
) -> None:
    job_id = accept_training(service)
    training = training_of(base, steps=800)
    previews = Previews(context, claim(service, job_id), training)
    training.step += 200
    began = time.monotonic()
    previews.maybe_draw(training, while_waiting=never)
    cost = time.monotonic() - began
    assert service.blobs.get(keys.preview_key(job_id, 1)).startswith(b"\x89PNG")
    service.blobs.delete(keys.preview_key(job_id, 1))
    # Two of that cost fit into a tenth of twenty times as long, and no sooner.
    while time.monotonic() < began + 3 * cost:
        training.step += 200
        previews.maybe_draw(training, while_waiting=never)
        time.sleep(0.01)
    assert keys.preview_key(job_id, 1) not in blob_keys(service)


def test_a_preview_that_cannot_be_drawn_does_not_stop_the_training(
    service: Service, context: WorkerContext, base: BaseModel
) -> None:
    job_id = accept_training(service)
    training = training_of(base, steps=800)
    context.engine.stop()
    broken = replace(context, engine=object())  # type: ignore[arg-type]
    previews = Previews(broken, claim(service, job_id), training)
    training.step += 200
    previews.maybe_draw(training, while_waiting=never)
    assert keys.preview_key(job_id, 1) not in blob_keys(service)


def test_a_cancel_is_noticed_in_the_middle_of_a_preview(
    service: Service, context: WorkerContext, base: BaseModel
) -> None:
    training = training_of(base, steps=800)
    previews = Previews(context, claim(service, accept_training(service)), training)
    training.step += 200

    def cancelled(on_device: bool) -> None:
        raise CancelRequested

    held, over = Event(), Event()

    def hold() -> None:
        held.set()
        over.wait()

    holder = Thread(target=context.engine.run_on_device, args=(hold,))
    holder.start()
    assert held.wait(60)
    try:
        with pytest.raises(CancelRequested):
            previews.maybe_draw(training, while_waiting=cancelled)
    finally:
        over.set()
        holder.join(5)
