"""Presence in a generation: told beside the images, and never a reason for one to fail."""

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.evaluation.curve import Curve, Point, Similarity
from perfusion_core.evaluation.record import Evaluation
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.imaging.thumbnails import thumbnail
from service.concepts import use_cases as concepts
from service.jobs.views import JobView, NamedConcept
from service.settings.environment import SHIPPED_BASE_MODEL
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.perfusion_core.conftest import drawing
from tests.unit.worker.staging import (
    OWNER,
    accept_generation,
    add_concept,
    look_at,
    wait_until,
)
from worker import context as composition
from worker.context import WorkerContext
from worker.models.evaluators import Evaluators
from worker.runner import Runner

EVALUATOR = SHIPPED_BASE_MODEL.with_name("evaluator")


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(EVALUATOR)


def judged(concept: Concept, evaluator: Evaluator, *, floor: float, best: float) -> Concept:
    """The concept with a curve that asks for half-way between `floor` and `best`."""
    curve = Curve(
        prompts=("a {}",),
        superclass=Similarity(floor, 0.2),
        ceiling=1.0,
        points=(Point(0.75, Similarity(best, 0.2)),),
    )
    reference = evaluator.embed_images([drawing()])[0].numpy().astype(np.float32)
    found = Evaluation(
        evaluator=evaluator.ref,
        reference=reference,
        curve=curve,
        thumbnails=(thumbnail(drawing()),),
    )
    return replace(concept, evaluation=found)


def working(service: Service, base: BaseModel) -> WorkerContext:
    context = composition.build(service, base=base)
    context.model_loader.start()
    assert context.model_loader.wait(timeout_seconds=10)
    return context


def generate(context: WorkerContext, prompt: str, *, num_images: int = 1) -> JobView:
    context.engine.start()
    job_id = accept_generation(context.service, prompt, num_images=num_images)
    Runner(context).run(Queue.GENERATE)
    context.engine.stop()
    job = look_at(context.service, job_id)
    assert job.status is JobStatus.SUCCEEDED, job.error
    return job


def test_a_concept_that_is_in_no_image_is_told_and_others_are_not(
    make_service: Callable[..., Service], base: BaseModel, concept: Concept, evaluator: Evaluator
) -> None:
    service = make_service(evaluator="auto")
    context = working(service, base)
    add_concept(service, judged(concept, evaluator, floor=-0.9, best=-0.5))  # easily pleased
    add_concept(service, replace(concept, name="plain", i_star=-concept.i_star[::-1]))
    hidden = replace(
        judged(concept, evaluator, floor=0.98, best=1.01),
        name="hidden",
        i_star=np.roll(concept.i_star, 7),
    )
    add_concept(service, hidden)
    job = generate(context, "a <rex>, a <plain> and a <hidden>", num_images=2)
    ids = {name: concepts.get(service, OWNER, ref=name).id for name in ("rex", "hidden")}
    for image in job.images:
        assert image.presence is not None
        told = [(view.concept_id, view.name, view.present) for view in image.presence]
        assert told == [(ids["rex"], "rex", True), (ids["hidden"], "hidden", False)]
    (warning,) = [
        warning for warning in job.warnings if warning.type == "/problems/concept-vanished"
    ]
    assert warning.concepts == (NamedConcept(id=ids["hidden"], name="hidden"),)
    assert "<hidden>" in warning.detail


def test_an_evaluator_that_cannot_be_loaded_is_not_tried_by_every_image(
    make_service: Callable[..., Service], base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []

    def fail(*_: object, **__: object) -> Evaluator:
        threads.append(threading.current_thread().name)
        raise OSError("no such folder")

    monkeypatch.setattr("worker.models.evaluators.Evaluator", fail)
    evaluators = Evaluators(make_service(evaluator="somewhere").settings)
    evaluators.load(base)
    assert [evaluators.for_base_model(base) for _ in range(3)] == [None] * 3
    assert len(threads) == 1
    monkeypatch.setattr("worker.models.evaluators._TRY_AGAIN_SECONDS", 0.0)
    evaluators.load(base)
    assert evaluators.for_base_model(base) is None
    wait_until(lambda: threads[2:] == ["load-evaluator"])


def test_no_job_waits_for_an_evaluator_that_loads_slowly(
    make_service: Callable[..., Service],
    base: BaseModel,
    evaluator: Evaluator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    began, arrived = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> Evaluator:
        began.set()
        assert arrived.wait(60)
        return evaluator

    monkeypatch.setattr("worker.models.evaluators.Evaluator", slow)
    service = make_service(evaluator="somewhere")
    context = composition.build(service, base=base)
    context.model_loader.start()
    assert began.wait(60)
    # Nothing is claimed before it is there.
    assert not context.model_loader.wait(timeout_seconds=0.2)
    arrived.set()
    assert context.model_loader.wait(timeout_seconds=60)
    assert context.evaluators is not None and context.evaluators.for_base_model(base) is not None
    # One that was away at the start loads while jobs go on without it.
    arrived.clear()
    evaluators = Evaluators(service.settings)
    evaluators._try_at = 0.0
    assert evaluators.for_base_model(base) is None
    arrived.set()
    wait_until(lambda: evaluators.for_base_model(base) is not None)


def test_all_that_is_measured_beside_the_steps_is_measured_by_the_engine(
    make_service: Callable[..., Service], base: BaseModel, concept: Concept, evaluator: Evaluator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    threads: list[tuple[str, str]] = []

    def noted(name: str) -> None:
        real = getattr(sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2])

        def note(*args: object) -> object:
            threads.append((name, threading.current_thread().name))
            return real(*args)

        monkeypatch.setattr(name, note)

    noted("perfusion_core.evaluators.presence.presences")
    noted("worker.jobs.composition.blending_pairs")
    service = make_service(evaluator="auto")
    context = working(service, base)
    add_concept(service, judged(concept, evaluator, floor=0.5, best=0.9))
    other = replace(concept, name="other", i_star=-concept.i_star[::-1])
    add_concept(service, other)
    generate(context, "a <rex> and a <other>", num_images=2)
    assert threads == [
        ("worker.jobs.composition.blending_pairs", "engine"),
        *[("perfusion_core.evaluators.presence.presences", "engine")] * 2,
    ]


def test_without_an_evaluator_or_a_curve_presence_is_not_told(
    make_service: Callable[..., Service], base: BaseModel, concept: Concept, evaluator: Evaluator,
    tmp_path: Path,
) -> None:  # fmt: skip
    with_curve = judged(concept, evaluator, floor=0.98, best=1.01)
    for chosen, added in (
        ("none", with_curve),
        (str(tmp_path), with_curve),  # cannot be loaded
        ("auto", concept),
    ):
        service = make_service(evaluator=chosen)
        context = working(service, base)
        add_concept(service, added)
        job = generate(context, "a <rex>")
        assert job.images[0].presence is None
        assert job.warnings == ()
