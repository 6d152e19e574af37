"""A judgement through the whole worker: the curve of an adapted concept, without its pictures."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.callbacks import run_at_once
from perfusion_core.concept import Concept
from perfusion_core.evaluation.eval_prompts import WHOLE_CURVE
from perfusion_core.evaluation.record import Evaluation, EvaluatorRef
from perfusion_core.evaluators.concept_evaluator import ConceptEvaluator
from perfusion_core.evaluators.similarity import Evaluator
from service.concepts import imports
from service.concepts import use_cases as concepts
from service.concepts.views import ConceptAccepted
from service.jobs import use_cases as jobs
from service.settings.environment import SHIPPED_BASE_MODEL
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.perfusion_core.conftest import drawing, tiny_pipeline, trained_briefly
from tests.unit.perfusion_core.evaluation.test_record import FOUND
from tests.unit.worker.staging import OWNER, look_at, workers
from worker.context import WorkerContext
from worker.jobs import judgement
from worker.runner import Runner

PICTURES = [drawing(), drawing(96)]
SHORT = WHOLE_CURVE[:1]  # one image for each point, to be quick


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(SHIPPED_BASE_MODEL.with_name("evaluator"))


@pytest.fixture(scope="module")
def of_sibling(evaluator: Evaluator) -> Concept:
    """A concept of a base model with the served one's text encoder, and its pictures' embedding."""
    pipeline = tiny_pipeline("sd1")
    pipeline.unet = tiny_pipeline("sd1", seed=99).unet
    sibling = BaseModel.from_pipeline(pipeline, name="sibling", device="cpu")
    sibling.estimate_covariance(f"a photo of a dog {k}" for k in range(200))
    embeddings = evaluator.embed_images(PICTURES)
    assert FOUND.curve is not None
    found = replace(
        FOUND,
        evaluator=evaluator.ref,
        reference=embeddings.mean(0).numpy(),
        curve=replace(FOUND.curve, ceiling=float(embeddings[0] @ embeddings[1])),
    )
    return replace(trained_briefly(sibling), evaluation=found)


@pytest.fixture
def judging(
    make_service: Callable[..., Service], base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Service, Callable[[], WorkerContext]]]:
    monkeypatch.setattr(judgement, "WHOLE_CURVE", SHORT)
    service = make_service(evaluator="auto")
    with workers(service, base) as make:
        yield service, make


def accept(service: Service, concept: Concept) -> str:
    accepted = imports.import_file(service, OWNER, data=concept.to_bytes(), adapt=True)
    assert isinstance(accepted, ConceptAccepted)
    return accepted.job.id


def stored(service: Service) -> Concept:
    return Concept.from_bytes(concepts.read_file(service, OWNER, ref="rex").data)


def test_the_curve_is_the_one_that_a_trainings_end_measures_with_the_pictures(
    judging: tuple[Service, Callable[[], WorkerContext]],
    base: BaseModel,
    evaluator: Evaluator,
    of_sibling: Concept,
) -> None:
    service, make = judging
    context = make()
    job_id = accept(service, of_sibling)
    assert look_at(service, job_id).status is JobStatus.QUEUED
    assert concepts.get(service, OWNER, ref="rex").verdict is None
    Runner(context).run(Queue.TRAIN)
    job = look_at(service, job_id)
    assert (job.status, job.progress.step) == (JobStatus.SUCCEEDED, 8)
    view = concepts.get(service, OWNER, ref="rex")
    assert view.verdict is not None and view.recommended_strength is not None
    with_pictures = ConceptEvaluator(
        evaluator,
        base,
        pictures=PICTURES,
        superclass="robot",
        run_on_device=run_at_once,
        check=lambda: None,
    ).evaluate(base.adapt(of_sibling), SHORT)
    expected = Concept.from_bytes(
        replace(base.adapt(of_sibling), evaluation=with_pictures).to_bytes()
    )
    assert stored(service).to_bytes() == expected.to_bytes()


@pytest.mark.slow
def test_progress_counts_the_points_and_a_drain_begins_anew(
    judging: tuple[Service, Callable[[], WorkerContext]],
    of_sibling: Concept,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, make = judging
    first, second = make(), make()
    job_id = accept(service, of_sibling)
    evaluate, seen = ConceptEvaluator.evaluate, []

    def drained(self: ConceptEvaluator, *what: Any, measured: Callable[[int], None]) -> Evaluation:
        def point(count: int) -> None:
            seen.append(count)
            measured(count)
            if count == 2:
                first.draining.set()

        return evaluate(self, *what, measured=point)

    with monkeypatch.context() as patch:
        patch.setattr(ConceptEvaluator, "evaluate", drained)
        Runner(first).run(Queue.TRAIN)
    assert seen == [1, 2]
    assert look_at(service, job_id).status is JobStatus.QUEUED
    Runner(second).run(Queue.TRAIN)
    assert look_at(service, job_id).status is JobStatus.SUCCEEDED
    assert stored(service).curve is not None


def test_a_cancelled_judgement_ends_and_leaves_the_concept_usable(
    judging: tuple[Service, Callable[[], WorkerContext]],
    of_sibling: Concept,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, make = judging
    context = make()
    job_id = accept(service, of_sibling)
    evaluate = ConceptEvaluator.evaluate

    def cancelled(self: ConceptEvaluator, *what: Any, **more: Any) -> Evaluation:
        jobs.cancel(service, OWNER, job_id=job_id)
        return evaluate(self, *what, **more)

    monkeypatch.setattr(ConceptEvaluator, "evaluate", cancelled)
    Runner(context).run(Queue.TRAIN)
    assert look_at(service, job_id).status is JobStatus.CANCELLED
    view = concepts.get(service, OWNER, ref="rex")
    assert (view.usable, view.revision, view.verdict) == (True, 1, None)


OTHER = EvaluatorRef("another", "0" * 32)


@pytest.mark.parametrize(
    ("served", "ref", "reason"),
    [
        (False, None, "No evaluator is served"),
        (True, None, "trained without an evaluator"),
        (True, OTHER, "embedded by the evaluator another"),
    ],
)
def test_what_cannot_be_measured_is_imported_and_the_job_says_why(
    judging: tuple[Service, Callable[[], WorkerContext]],
    of_sibling: Concept,
    served: bool,
    ref: EvaluatorRef | None,
    reason: str,
) -> None:
    service, make = judging
    context = make()
    if not served:
        assert context.evaluators is not None
        context.evaluators._loaded = None
    found = of_sibling.evaluation
    assert found is not None
    evaluation = replace(found, evaluator=ref) if ref else (found if not served else None)
    job_id = accept(service, replace(of_sibling, evaluation=evaluation))
    Runner(context).run(Queue.TRAIN)
    job = look_at(service, job_id)
    assert job.status is JobStatus.SUCCEEDED
    assert job.warnings[-1].type == "/problems/not-judged"
    assert reason in job.warnings[-1].detail
    assert concepts.get(service, OWNER, ref="rex").usable
    assert stored(service).curve is None
