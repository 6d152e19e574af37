"""A concept looks like its photos, and strength says how much: on the shipped model, measured."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from api.demo.subjects import SUBJECTS, photograph
from benchmarks.paper.measures import colour_overlap
from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.conditioning import ConceptUse
from perfusion_core.config import Locking
from perfusion_core.errors import BaseModelError
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.sampling.sampler import generate
from perfusion_core.strength import beta_from_strength
from perfusion_core.training.trainer import train

pytestmark = pytest.mark.slow  # trains one concept for 160 steps

EVALUATOR = Path(__file__).parents[3] / "models" / "evaluator"
ROBOT = next(subject for subject in SUBJECTS if subject.superclass == "robot")
PHOTOS = photograph(ROBOT)
PICTURES = [photo.picture for photo in PHOTOS]


@pytest.fixture(scope="module")
def rex(shipped: BaseModel) -> Concept:
    training = train(
        shipped,
        PICTURES,
        name="rex",
        superclass="robot",
        masks=[photo.mask for photo in PHOTOS],
        config=shipped.defaults.train_config(),
    )
    for _ in training:
        pass
    return training.concept()


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(EVALUATOR)


def draw(
    base: BaseModel,
    prompt: str,
    rex: Concept | None = None,
    *,
    strength: float = 0.88,
    locking: Locking = "local",
) -> list[Image.Image]:
    options = {"num_images": 4, "seed": 40, "num_inference_steps": 12, "locking": locking}
    concepts = {} if rex is None else {"rex": ConceptUse(rex, beta_from_strength(strength))}
    return generate(base, prompt, concepts=concepts, config=base.defaults.generate_config(options))


def image_similarity(evaluator: Evaluator, images: list[Image.Image]) -> float:
    """Mean cosine between every image and every photo."""
    return float((evaluator.embed_images(images) @ evaluator.embed_images(PICTURES).T).mean())


@pytest.mark.parametrize("locking", ["local", "global"])
def test_similarity_to_the_photos_rises_with_strength(
    shipped: BaseModel, rex: Concept, evaluator: Evaluator, locking: Locking
) -> None:
    low, middle, high = (
        draw(shipped, "a photo of <rex> in the snow", rex, strength=strength, locking=locking)
        for strength in (0.2, 0.5, 0.9)
    )
    seen = [image_similarity(evaluator, images) for images in (low, middle, high)]
    assert seen[0] < seen[1] < seen[2]
    assert colour_overlap(low, PICTURES) < colour_overlap(high, PICTURES)


def test_the_concept_is_nearer_to_its_photos_than_its_superclass_is(
    shipped: BaseModel, rex: Concept, evaluator: Evaluator
) -> None:
    plain = draw(shipped, "a photo of a robot on the beach")
    own = draw(shipped, "a photo of <rex> on the beach", rex)
    seen = [image_similarity(evaluator, images) for images in (plain, own)]
    assert seen[1] > seen[0] + 0.1
    assert colour_overlap(own, PICTURES) > colour_overlap(plain, PICTURES) + 0.1


def test_the_scene_still_follows_the_prompt(shipped: BaseModel, rex: Concept) -> None:
    night = draw(shipped, "a photo of <rex> at night", rex)
    snow = draw(shipped, "a photo of <rex> in the snow", rex)

    def top(images: list[Image.Image]) -> float:
        return float(np.mean([np.asarray(image.convert("L"), float)[:8] for image in images]))

    assert top(snow) > top(night) + 80


def test_an_evaluator_that_is_none_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"has neither model\.safetensors nor"):
        Evaluator(tmp_path)
