"""Judging: the same images every time, figures in order, and never a concept lost by it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.curve import STRENGTHS
from perfusion_core.evaluation import Evaluation
from perfusion_core.similarity import Evaluator
from perfusion_core.trials import Trial
from service import concept_curves, concepts
from service.settings import SHIPPED_BASE_MODEL, Settings
from service.views import JobKind, JobStatus
from service.wiring import Service
from tests.unit.worker.staging import (
    OWNER,
    accept_generation,
    accept_training,
    drawing,
    in_thread,
    look_at,
)
from worker import evaluators
from worker import parts as composition
from worker.engine import Engine
from worker.errors import CancelRequested
from worker.evaluators import Evaluators
from worker.judge import Judge
from worker.parts import Parts
from worker.runner import Runner

SHIPPED = SHIPPED_BASE_MODEL.with_name("evaluator")
TRIALS = (Trial("a photo of a {} on the beach", 7),)


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(SHIPPED)


@pytest.fixture
def judging(
    make_service: Callable[..., Service], base: BaseModel
) -> Iterator[tuple[Service, Callable[[], Parts]]]:
    """A service whose settings leave the evaluator to itself, and workers for it."""
    service = make_service(evaluator="auto")
    built: list[Parts] = []

    def make() -> Parts:
        parts = composition.build(service, base=base)
        parts.resident.start()
        assert parts.resident.wait(timeout_seconds=10)
        parts.engine.start()
        built.append(parts)
        return parts

    yield service, make
    for parts in built:
        parts.engine.stop()


@pytest.fixture(scope="module")
def engine(base: BaseModel) -> Iterator[Engine]:
    engine = Engine(lambda: base)
    engine.start()
    yield engine
    engine.stop()


JudgeOf = Callable[..., Judge]


@pytest.fixture
def judge_of(evaluator: Evaluator, base: BaseModel, engine: Engine) -> JudgeOf:
    def make(*pictures: Image.Image, check: Callable[[], None] = lambda: None) -> Judge:
        return Judge(
            evaluator, base, pictures=pictures, superclass="robot", engine=engine, check=check
        )

    return make


def test_the_shipped_evaluator_goes_with_the_shipped_base_model_and_with_no_other() -> None:
    def name(**options: str) -> str | None:
        return evaluators.name_of(Settings.model_validate(options))

    assert name() == str(SHIPPED)
    assert name(base_model="stable-diffusion-v1-5/stable-diffusion-v1-5") is None
    assert name(evaluator="none") is None
    assert name(base_model="x/y", evaluator="some/clip") == "some/clip"


def test_an_evaluator_is_loaded_once_and_one_that_cannot_be_is_none(
    base: BaseModel, tmp_path: Path
) -> None:
    shipped = Evaluators(Settings())
    assert shipped.beside(base) is shipped.beside(base) is not None
    assert Evaluators(Settings(evaluator=str(tmp_path))).beside(base) is None


def test_figures_are_the_mean_cosines_that_the_method_names(
    evaluator: Evaluator, judge_of: JudgeOf, concept: Concept
) -> None:
    pictures = [drawing(), ImageOps.invert(drawing()), drawing(96)]
    judge = judge_of(*pictures)
    found = judge.evaluate(concept, TRIALS)
    assert found.curve is not None and found.curve.ceiling is not None
    embeddings = evaluator.embed_images(pictures)
    assert np.allclose(found.reference, embeddings.mean(0).numpy(), atol=1e-6)
    pairs = [float(embeddings[i] @ embeddings[k]) for i, k in ((0, 1), (0, 2), (1, 2))]
    assert found.curve.ceiling == pytest.approx(np.mean(pairs), abs=1e-5)
    assert [point.strength for point in found.curve.points] == list(STRENGTHS)
    assert found.curve.prompts == ("a photo of a {} on the beach",)
    # An image's embedding times the reference is its image similarity.
    image = torch.from_numpy(found.reference) @ evaluator.embed_images([drawing()])[0]
    assert float(image) == pytest.approx(
        evaluator.image_similarity([drawing()], pictures), abs=1e-5
    )
    written = Concept.from_bytes(replace(concept, evaluation=found).to_bytes())
    assert written.evaluation is not None
    assert written.evaluation.evaluator == evaluator.ref


def test_one_picture_has_no_ceiling(judge_of: JudgeOf) -> None:
    assert judge_of(drawing()).ceiling is None


def test_what_lies_behind_transparent_parts_is_not_looked_at(evaluator: Evaluator) -> None:
    one, other = Image.new("RGBA", (64, 64), "red"), Image.new("RGBA", (64, 64), "blue")
    for image in (one, other):
        image.putalpha(0)
    both = evaluator.embed_images([one, other])
    assert torch.equal(both[0], both[1])


def test_a_cancel_is_noticed_in_the_middle_of_a_trial(judge_of: JudgeOf, concept: Concept) -> None:
    def cancelled() -> None:
        raise CancelRequested

    judge = judge_of(drawing(), check=cancelled)
    with pytest.raises(CancelRequested):
        judge.score(concept, TRIALS)


def test_a_trained_concept_comes_with_its_curve_and_verdict(
    judging: tuple[Service, Callable[[], Parts]],
) -> None:
    service, make = judging
    accept_training(service, max_train_steps=4)
    Runner(make()).run(JobKind.TRAIN)
    view = concepts.get(service, OWNER, ref="rex")
    curve = concept_curves.get(service, OWNER, ref="rex")
    assert view.verdict == curve.verdict
    assert view.recommended_strength == curve.recommended_strength
    assert curve.evaluator == "evaluator"
    assert [point.strength for point in curve.points] == list(STRENGTHS)
    assert concept_curves.read_thumbnail(service, OWNER, ref="rex", index=4).data
    core = Concept.from_bytes(concepts.read_file(service, OWNER, ref="rex").data)
    assert core.reference is not None


def test_a_judged_training_gives_the_same_file_beside_generations(
    judging: tuple[Service, Callable[[], Parts]],
) -> None:
    """Alone, and while the engine draws: judging shares no batch with anybody."""
    service, make = judging
    parts = make()
    files = []
    for name in ("alone", "beside"):
        accept_training(service, name=name, max_train_steps=4)
        if name == "beside":
            job_id = accept_generation(service, num_images=4, num_inference_steps=20)
            thread = in_thread(Runner(parts).run, JobKind.GENERATE)
        Runner(parts).run(JobKind.TRAIN)
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
    judging: tuple[Service, Callable[[], Parts]], batches: int
) -> None:
    service, make = judging
    parts = make()
    broken = _BrokenHalfWay(SHIPPED)
    broken.left = batches
    assert parts.evaluators is not None
    parts.evaluators._loaded = broken
    job_id = accept_training(service)
    Runner(parts).run(JobKind.TRAIN)
    assert look_at(service, job_id).status is JobStatus.SUCCEEDED
    view = concepts.get(service, OWNER, ref="rex")
    assert view.verdict is None
    core = Concept.from_bytes(concepts.read_file(service, OWNER, ref="rex").data)
    assert core.evaluation is None


def test_an_interrupted_judgement_is_made_by_the_next_attempt(
    judging: tuple[Service, Callable[[], Parts]], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, make = judging
    accept_training(service, name="whole")
    Runner(make()).run(JobKind.TRAIN)
    job_id = accept_training(service, name="interrupted")
    first = make()
    evaluate = Judge.evaluate

    def drained(self: Judge, concept: Concept, trials: Any) -> Evaluation:
        first.draining.set()
        return evaluate(self, concept, trials)

    with monkeypatch.context() as patch:
        patch.setattr(Judge, "evaluate", drained)
        Runner(first).run(JobKind.TRAIN)
    assert look_at(service, job_id).status is JobStatus.QUEUED
    Runner(make()).run(JobKind.TRAIN)
    one, other = (
        Concept.from_bytes(concepts.read_file(service, OWNER, ref=name).data).renamed("x")
        for name in ("whole", "interrupted")
    )
    assert one.to_bytes() == other.to_bytes()
    assert one.curve is not None
