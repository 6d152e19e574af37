"""A judged training through the whole worker: its curve is there, and nothing is lost by it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.evaluation.curve import STRENGTHS
from perfusion_core.evaluation.record import Evaluation
from perfusion_core.evaluators.concept_evaluator import ConceptEvaluator
from perfusion_core.evaluators.similarity import Evaluator
from service.concepts import curves
from service.concepts import use_cases as concepts
from service.settings.environment import SHIPPED_BASE_MODEL
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.worker.staging import (
    OWNER,
    accept_generation,
    accept_training,
    in_thread,
    look_at,
    workers,
)
from worker.context import WorkerContext
from worker.runner import Runner


@pytest.fixture
def judging(
    make_service: Callable[..., Service], base: BaseModel
) -> Iterator[tuple[Service, Callable[[], WorkerContext]]]:
    """A service whose settings leave the evaluator to itself, and workers for it."""
    service = make_service(evaluator="auto")
    with workers(service, base) as make:
        yield service, make


def test_a_trained_concept_comes_with_its_curve_and_verdict(
    judging: tuple[Service, Callable[[], WorkerContext]],
) -> None:
    service, make = judging
    accept_training(service, max_train_steps=4)
    Runner(make()).run(Queue.TRAIN)
    view = concepts.get(service, OWNER, ref="rex")
    curve = curves.get(service, OWNER, ref="rex")
    assert view.verdict == curve.verdict
    assert view.recommended_strength == curve.recommended_strength
    assert curve.evaluator == "evaluator"
    assert [point.strength for point in curve.points] == list(STRENGTHS)
    assert curves.read_thumbnail(service, OWNER, ref="rex", index=4).data
    core = Concept.from_bytes(concepts.read_file(service, OWNER, ref="rex").data)
    assert core.reference is not None


def test_a_judged_training_gives_the_same_file_beside_generations(
    judging: tuple[Service, Callable[[], WorkerContext]],
) -> None:
    """Alone, and while the engine draws: judging shares no batch with anybody."""
    service, make = judging
    context = make()
    files = []
    for name in ("alone", "beside"):
        accept_training(service, name=name, max_train_steps=4)
        if name == "beside":
            job_id = accept_generation(service, num_images=4, num_inference_steps=20)
            thread = in_thread(Runner(context).run, Queue.GENERATE)
        Runner(context).run(Queue.TRAIN)
        data = concepts.read_file(service, OWNER, ref=name).data
        files.append(Concept.from_bytes(data).renamed("x").to_bytes())
    thread.join(60)
    assert look_at(service, job_id).status is JobStatus.SUCCEEDED
    assert files[0] == files[1]


class _BrokenHalfWay(Evaluator):
    """The shipped evaluator, until it has embedded so many batches of images."""

    left = 1

    def embed_images(self, images: Any) -> torch.Tensor:
        if self.left == 0:
            raise RuntimeError("no more")
        self.left -= 1
        return super().embed_images(images)


@pytest.mark.parametrize("batches", [0, 1, 3])
def test_a_judgement_that_fails_costs_the_curve_and_never_the_concept(
    judging: tuple[Service, Callable[[], WorkerContext]], batches: int
) -> None:
    service, make = judging
    context = make()
    broken = _BrokenHalfWay(SHIPPED_BASE_MODEL.with_name("evaluator"))
    broken.left = batches
    assert context.evaluators is not None
    context.evaluators._loaded = broken
    job_id = accept_training(service)
    Runner(context).run(Queue.TRAIN)
    assert look_at(service, job_id).status is JobStatus.SUCCEEDED
    view = concepts.get(service, OWNER, ref="rex")
    assert view.verdict is None
    core = Concept.from_bytes(concepts.read_file(service, OWNER, ref="rex").data)
    assert core.evaluation is None


def test_an_interrupted_judgement_is_made_by_the_next_attempt(
    judging: tuple[Service, Callable[[], WorkerContext]], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, make = judging
    accept_training(service, name="whole")
    Runner(make()).run(Queue.TRAIN)
    job_id = accept_training(service, name="interrupted")
    first = make()
    evaluate = ConceptEvaluator.evaluate

    def drained(self: ConceptEvaluator, concept: Concept, eval_prompts: Any) -> Evaluation:
        first.draining.set()
        return evaluate(self, concept, eval_prompts)

    with monkeypatch.context() as patch:
        patch.setattr(ConceptEvaluator, "evaluate", drained)
        Runner(first).run(Queue.TRAIN)
    assert look_at(service, job_id).status is JobStatus.QUEUED
    Runner(make()).run(Queue.TRAIN)
    whole, interrupted = (
        Concept.from_bytes(concepts.read_file(service, OWNER, ref=name).data).renamed("x")
        for name in ("whole", "interrupted")
    )
    assert whole.to_bytes() == interrupted.to_bytes()
    assert whole.curve is not None
