"""Judging: the same images every time, figures in order, and never a concept lost by it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.utils._python_dispatch import TorchDispatchMode

from perfusion_core.base_model import BaseModel
from perfusion_core.callbacks import Check, RunOnDevice
from perfusion_core.concept import Concept
from perfusion_core.errors import Interrupted
from perfusion_core.evaluation.curve import STRENGTHS, recommended
from perfusion_core.evaluation.eval_prompts import PROOF, EvalPrompt, judging_of
from perfusion_core.evaluators.concept_evaluator import ConceptEvaluator
from perfusion_core.evaluators.similarity import Evaluator
from tests.unit.perfusion_core.conftest import drawing

TRIALS = (EvalPrompt("a photo of a {} on the beach", 7),)
JudgeOf = Callable[..., ConceptEvaluator]


@pytest.fixture
def judge_of(evaluator: Evaluator, base: BaseModel, run_on_device: RunOnDevice) -> JudgeOf:
    def make(*pictures: Image.Image, check: Check = lambda: None) -> ConceptEvaluator:
        return ConceptEvaluator(
            evaluator,
            base,
            pictures=pictures,
            superclass="robot",
            run_on_device=run_on_device,
            check=check,
        )

    return make


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
    # A file's figures have four digits: half of the last one, and float32.
    assert found.curve.ceiling == pytest.approx(np.mean(pairs), abs=6e-5)
    assert [point.strength for point in found.curve.points] == list(STRENGTHS)
    assert found.curve.prompts == ("a photo of a {} on the beach",)
    assert len(found.thumbnails) == len(STRENGTHS)
    # An image's embedding times the reference is its image similarity.
    (drawn,) = evaluator.embed_images([drawing()])
    similarity = float((embeddings @ drawn).mean())
    assert float(torch.from_numpy(found.reference) @ drawn) == pytest.approx(similarity, abs=1e-5)
    written = Concept.from_bytes(replace(concept, evaluation=found).to_bytes())
    assert written.evaluation is not None
    assert written.evaluation.evaluator == evaluator.ref


@pytest.mark.slow
def test_a_proof_is_measured_at_the_recommended_strength_whatever_the_curve_has_tried(
    evaluator: Evaluator, judge_of: JudgeOf, concept: Concept, base: BaseModel
) -> None:
    short = judge_of(drawing(), drawing(96)).evaluate(concept, TRIALS)
    long = judge_of(drawing(), drawing(96)).evaluate(concept, PROOF[:4])
    assert short.curve is not None and long.curve is not None
    one, other = short.curve.proof, long.curve.proof
    assert one is not None and other is not None
    assert len(one.images) == len(one.windows) == len(PROOF)
    assert one.judging == other.judging == judging_of(base.defaults, text_floor=True)
    assert one.superclass == other.superclass
    # The whole image is one of its windows.
    assert all(w >= i - 1e-5 for i, w in zip(one.images, one.windows, strict=True))
    best = recommended(long.curve)
    assert np.mean(other.images[:4]) == pytest.approx(best.similarity.image, abs=6e-5)
    if recommended(short.curve).strength == best.strength:
        assert one == other


@pytest.mark.slow
def test_a_concept_is_judged_by_the_figures_that_its_file_holds(
    judge_of: JudgeOf, concept: Concept
) -> None:
    """Else a near tie may recommend another strength in the file than the proof was drawn at."""
    found = judge_of(drawing(), drawing(96)).evaluate(concept, TRIALS)
    written = Concept.from_bytes(replace(concept, evaluation=found).to_bytes())
    assert found.curve is not None and written.curve is not None
    assert replace(written.curve, proof=None) == replace(found.curve, proof=None)


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
        raise Interrupted

    judge = judge_of(drawing(), check=cancelled)
    with pytest.raises(Interrupted):
        judge.score(concept, TRIALS)


class _Computed(TorchDispatchMode):
    """Counts the tensor operations of the thread that entered it."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.slow
def test_judging_computes_in_its_turns_alone(judge_of: JudgeOf, concept: Concept) -> None:
    """A thread that computes owns OpenMP threads, and those of the device's thread then sleep."""
    with _Computed() as here:
        judge = judge_of(drawing(), drawing(96))
        judge.score(concept, TRIALS)
        judge.evaluate(concept, TRIALS)
    assert here.count == 0
    numbers = torch.ones(2)
    with _Computed() as here:
        numbers.sum()
    assert here.count == 1
