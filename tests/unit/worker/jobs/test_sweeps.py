"""A sweep is one job, and each of its images is the one that the same request alone gives."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from service.jobs import use_cases as jobs
from service.jobs.views import JobView
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.worker.staging import (
    OWNER,
    accept_generation,
    add_concept,
    blob_keys,
    in_thread,
    look_at,
    wait_until,
    workers,
)
from worker.context import WorkerContext
from worker.runner import Runner


def generated(service: Service, context: WorkerContext, prompt: str, **options: Any) -> JobView:
    job_id = accept_generation(service, prompt, **options)
    Runner(context).run(Queue.GENERATE)
    job = look_at(service, job_id)
    assert job.status is JobStatus.SUCCEEDED, job.error
    return job


def png_of(service: Service, image_id: str) -> bytes:
    return jobs.read_image(service, OWNER, image_id=image_id).data


def pixels(png: bytes) -> npt.NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(png)), np.int16)


def sweep(*axes: tuple[str, list[Any]]) -> dict[str, Any]:
    return {"sweep": {"axes": [{"field": field, "values": values} for field, values in axes]}}


PROMPTS = ["a <rex> and a <other>", "a boat", "a <other> and a <rex:0.5>"]


@pytest.fixture
def both(service: Service, context: WorkerContext, concept: Concept) -> None:
    """Two concepts, which a worker has to be there for."""
    add_concept(service, concept)
    add_concept(service, replace(concept, name="other", i_star=-concept.i_star[::-1]))


@pytest.mark.usefixtures("both")
def test_a_cell_is_the_image_of_the_same_request_alone(
    service: Service, context: WorkerContext
) -> None:
    maps = {"attention_maps": True}
    swept = generated(
        service, context, "unused", **maps, **sweep(("prompt", PROMPTS), ("seed", [1, 8]))
    )
    assert [image.cell for image in swept.images] == [(c, r) for r in range(2) for c in range(3)]
    for image in swept.images:
        assert image.cell is not None
        prompt, seed = PROMPTS[image.cell[0]], [1, 8][image.cell[1]]
        (alone,) = generated(service, context, prompt, seed=seed, **maps).images
        first, second = png_of(service, image.id), png_of(service, alone.id)
        assert np.abs(pixels(first) - pixels(second)).max() <= 1
        about = [
            json.loads(Image.open(io.BytesIO(png)).text["perfusion"]) for png in (first, second)
        ]
        assert about[0] == about[1]
        assert (image.seed, alone.cell) == (seed, None)
        words = [[shown.word for shown in each.attention_maps or ()] for each in (image, alone)]
        assert words[0] == words[1]


def test_with_exact_batches_a_cell_is_the_same_file_bit_by_bit(
    make_service: Callable[..., Service], base: BaseModel, concept: Concept
) -> None:
    service = make_service(batches="exact")
    with workers(service, base) as make:
        context = make()
        add_concept(service, concept)
        axes = ("beta:rex", [0.8, 0.5, 0.2]), ("num_inference_steps", [1, 3])
        swept = generated(service, context, "a <rex>", **sweep(*axes))
        for image in swept.images:
            assert image.cell is not None
            beta, steps = (axis[1][place] for axis, place in zip(axes, image.cell, strict=True))
            chosen = {"concepts": [{"name": "rex", "beta": beta}], "num_inference_steps": steps}
            (alone,) = generated(service, context, "a <rex>", **chosen).images
            assert png_of(service, image.id) == png_of(service, alone.id)


@pytest.mark.usefixtures("both")
def test_a_sweep_that_is_cancelled_in_the_middle_leaves_nothing(
    service: Service, context: WorkerContext
) -> None:
    before = blob_keys(service)
    job_id = accept_generation(
        service, "a <rex>", num_inference_steps=200, **sweep(("seed", [*range(40)]))
    )
    thread = in_thread(Runner(context).run, Queue.GENERATE)
    wait_until(lambda: look_at(service, job_id).progress.step > 0)
    jobs.cancel(service, OWNER, job_id=job_id)
    thread.join(30)
    assert look_at(service, job_id).status is JobStatus.CANCELLED
    assert blob_keys(service) == before


@pytest.mark.usefixtures("both")
def test_a_sweep_whose_worker_leaves_is_done_again_with_the_same_images(
    service: Service, make_context: Callable[[], WorkerContext]
) -> None:
    swept = sweep(("seed", [3, 4]), ("strength:rex", [0.4, 0.6]))
    steps = {"num_inference_steps": 25}
    first, second = make_context(), make_context()
    expected = generated(service, second, "a <rex>", **steps, **swept)
    job_id = accept_generation(service, "a <rex>", **steps, **swept)
    thread = in_thread(Runner(first).run, Queue.GENERATE)
    wait_until(lambda: look_at(service, job_id).progress.step > 0)
    first.draining.set()
    first.halted.set()
    thread.join(30)
    assert look_at(service, job_id).status is JobStatus.QUEUED
    Runner(second).run(Queue.GENERATE)
    again = look_at(service, job_id)
    assert (again.status, again.attempt) == (JobStatus.SUCCEEDED, 2)
    assert [image.cell for image in again.images] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    for image, same in zip(again.images, expected.images, strict=True):
        assert png_of(service, image.id) == png_of(service, same.id)


@pytest.mark.usefixtures("both")
def test_a_warning_about_several_cells_is_told_once(
    service: Service, context: WorkerContext
) -> None:
    long = "a boat " * 80
    job = generated(service, context, long, **sweep(("seed", [1, 2, 3])))
    assert [warning.type for warning in job.warnings] == ["/problems/prompt-cut"]
