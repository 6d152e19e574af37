"""Where unrelated pairs have half of a matching pair's cosine, ignoring the prompt still costs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.config import TrainConfig
from perfusion_core.evaluation.calibration import CALIBRATION_FILE, Calibration, Thresholds
from perfusion_core.evaluation.curve import Curve, balance_at, recommended
from perfusion_core.evaluation.eval_prompts import (
    SCENE_PROMPTS,
    WHOLE_CURVE,
    eval_schedule,
    judging_of,
)
from perfusion_core.evaluation.record import Evaluation, EvaluatorRef
from perfusion_core.evaluation.verdict import figures_of, read_figures
from perfusion_core.evaluators.concept_evaluator import ConceptEvaluator, measures_text_floor
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.sampling.sampler import ImageRequest
from perfusion_core.strength import beta_from_strength
from perfusion_core.training.early_stopping import EarlyStopping
from tests.unit.perfusion_core.conftest import SHIPPED
from tests.unit.perfusion_core.test_concept import metadata

SCENES = [prompt.removeprefix("a photo of a {} ") for prompt in SCENE_PROMPTS]
PHOTOS_SCENE = len(SCENES)  # the pictures' own background, which no prompt names
NO_SCENE = PHOTOS_SCENE + 2
COMMON, PLAIN, OWN, WORDS = range(NO_SCENE, NO_SCENE + 4)
LIKE_A_CLIP = {"matching": 0.30, "unrelated": 0.15}


def painted(scene: int, likeness: float) -> Image.Image:
    """An image that only says what it shows."""
    return Image.new("RGB", (16, 16), (scene, round(100 * likeness), 0))


def scene_of(text: str) -> int:
    return next((k for k, scene in enumerate(SCENES) if text.endswith(scene)), NO_SCENE)


class ClipLike:
    """Cosines of image and text: 0.30 for the image's own scene, 0.15 for any other."""

    ref = EvaluatorRef("clip", "c" * 32)

    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        rows = torch.zeros(len(images), WORDS + 1)
        for row, image in zip(rows, images, strict=True):
            scene, percent, _ = image.getpixel((0, 0))  # type: ignore[misc]
            row[COMMON] = 0.5
            row[scene if scene < NO_SCENE else WORDS] = 0.5
            row[OWN] = 0.5**0.5 * percent / 100
            row[PLAIN] = (0.5 - float(row[OWN]) ** 2) ** 0.5
        return rows

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        rows = torch.zeros(len(texts), WORDS + 1)
        for row, text in zip(rows, texts, strict=True):
            scene = scene_of(text)
            row[COMMON] = 0.3 if scene < NO_SCENE else 0.6
            if scene < NO_SCENE:
                row[scene] = 0.3
        return rows


class Painter(ConceptEvaluator):
    """Paints an image at once: `paints` returns the concept's likeness and if it ignores prompts.

    Only the drawing is replaced; everything that is measured is measured as always.
    """

    paints: Callable[[float], tuple[float, bool]]

    def _draw(self, requests: Sequence[ImageRequest]) -> list[Image.Image]:
        images = []
        for request in requests:
            likeness, ignores = 0.0, False
            for use in request.concepts.values():
                likeness, ignores = self.paints(use.beta)
            images.append(painted(PHOTOS_SCENE if ignores else scene_of(request.prompt), likeness))
        return images


JudgeOf = Callable[..., Painter]
FOLLOWS: Any = lambda beta: (0.45, False)  # noqa: E731
IGNORES: Any = lambda beta: (1.0, True)  # noqa: E731


@pytest.fixture
def judge_of(base: BaseModel) -> JudgeOf:
    def make(paints: Any) -> Painter:
        evaluator: Any = ClipLike()
        judge = Painter(
            evaluator,
            base,
            pictures=[painted(PHOTOS_SCENE, 1), painted(PHOTOS_SCENE + 1, 1)],
            superclass="robot",
            run_on_device=lambda act: act(),
            check=lambda: None,
        )
        judge.paints = paints
        return judge

    return make


@pytest.fixture
def fitted_without(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    calibration = Calibration(
        base_model=base.fingerprint, evaluator=ClipLike.ref.fingerprint,
        judging=judging_of(base.defaults), thresholds=Thresholds(gain=0, presence=0, kept=0),
    )  # fmt: skip
    monkeypatch.setattr(base, "calibration", calibration)


def curve_of(found: Evaluation) -> Curve:
    assert found.curve is not None
    return found.curve


def test_the_floor_is_the_cosine_of_plain_images_to_scenes_that_they_do_not_show(
    judge_of: JudgeOf, concept: Concept
) -> None:
    curve = curve_of(judge_of(FOLLOWS).evaluate(concept, WHOLE_CURVE[:1]))
    assert curve.superclass.text == pytest.approx(LIKE_A_CLIP["matching"], abs=1e-4)
    assert curve.text_floor == pytest.approx(LIKE_A_CLIP["unrelated"], abs=1e-4)


def test_a_concept_that_ignores_its_prompt_scores_well_below_one_that_follows_it(
    judge_of: JudgeOf, concept: Concept
) -> None:
    follows = judge_of(FOLLOWS).score(concept, WHOLE_CURVE)
    ignores = judge_of(IGNORES).score(concept, WHOLE_CURVE)
    assert follows == pytest.approx(2 * 0.45 / 1.45, abs=0.02)
    assert ignores < follows - 0.5


def test_early_stopping_keeps_the_checkpoint_before_the_concept_ignored_its_prompt(
    judge_of: JudgeOf, concept: Concept
) -> None:
    config = TrainConfig(max_train_steps=80, train_batch_size=8)
    steps = eval_schedule(config).steps
    stopping = EarlyStopping(config)
    stopping.watch(judge_of(FOLLOWS).name)
    for k, step in enumerate(steps):
        if stopping.is_due(step):
            score = judge_of(FOLLOWS if k == 0 else IGNORES).score(concept, WHOLE_CURVE)
            stopping.record(step, score, {"of": torch.tensor(step)})
    assert stopping.step == steps[0] and stopping.stopped


def ignoring_when_strong(beta: float) -> tuple[float, bool]:
    return (1.0, True) if beta < 0.55 else (0.45, False)


def test_the_recommended_strength_lies_below_those_that_ignore_the_prompt(
    judge_of: JudgeOf, concept: Concept
) -> None:
    found = judge_of(ignoring_when_strong).evaluate(concept, WHOLE_CURVE)
    best = recommended(curve_of(found))
    assert beta_from_strength(best.strength) > 0.55
    without = replace(curve_of(found), text_floor=0.0)
    assert recommended(without).strength > best.strength


def test_a_floor_travels_in_the_file_beside_a_curve_that_the_previous_release_reads(
    judge_of: JudgeOf, concept: Concept
) -> None:
    found = judge_of(IGNORES).evaluate(concept, WHOLE_CURVE)
    written = Concept.from_bytes(replace(concept, evaluation=found).to_bytes())
    assert written.curve is not None
    assert written.curve.text_floor == curve_of(found).text_floor > 0.1
    assert all(balance_at(point, written.curve) < 0.01 for point in written.curve.points)
    assert "floor" not in metadata(replace(concept, evaluation=found).to_bytes())["perfusion.curve"]
    figures = figures_of(found)
    assert figures is not None and figures.text_floor > 0.1
    assert read_figures(json.loads(json.dumps(figures.to_json()))) == figures


@pytest.mark.usefixtures("fitted_without")
def test_a_calibration_that_was_fitted_without_a_floor_is_judged_by_without_one(
    judge_of: JudgeOf, concept: Concept, base: BaseModel
) -> None:
    judge = judge_of(IGNORES)
    curve = curve_of(judge.evaluate(concept, WHOLE_CURVE))
    assert curve.text_floor == 0 and curve.proof is not None
    assert curve.proof.judging == judging_of(base.defaults)
    assert judge.name == ClipLike.ref.fingerprint
    assert judge.score(concept, WHOLE_CURVE) == pytest.approx(2 / 3, abs=0.01)


def test_figures_with_a_floor_are_of_another_judging_and_scores_of_another_name(
    judge_of: JudgeOf, concept: Concept, base: BaseModel
) -> None:
    judge = judge_of(FOLLOWS)
    proof = curve_of(judge.evaluate(concept, WHOLE_CURVE)).proof
    assert proof is not None and proof.judging == judging_of(base.defaults, text_floor=True)
    assert proof.judging != judging_of(base.defaults)
    assert judge.name != ClipLike.ref.fingerprint


def test_the_shipped_model_is_judged_without_a_floor_as_its_calibration_was_fitted(
    shipped: BaseModel, evaluator: Evaluator
) -> None:
    assert not measures_text_floor(shipped, evaluator)
    told = json.loads((SHIPPED / CALIBRATION_FILE).read_text(encoding="utf-8"))["concepts"]
    for concept in told:
        figures = read_figures(concept["figures"])
        assert figures is not None and figures.to_json() == concept["figures"]
        assert figures.kept == min(1.0, figures.text / figures.plain_text)
        assert round(figures.kept, 4) == concept["kept"]
