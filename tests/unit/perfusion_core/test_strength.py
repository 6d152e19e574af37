"""A concept looks like its photos, and strength says how much: on the shipped model, measured."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from api.demo.subjects import SUBJECTS, photograph
from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.conditioning import ConceptUse
from perfusion_core.config import Locking
from perfusion_core.denoise import generate
from perfusion_core.errors import BaseModelError
from perfusion_core.similarity import Evaluator
from perfusion_core.strength import beta_from_strength
from perfusion_core.training import train

EVALUATOR = Path(__file__).parents[3] / "models" / "evaluator"
OWL = next(subject for subject in SUBJECTS if subject.superclass == "owl")
PHOTOS = photograph(OWL)
PICTURES = [photo.picture for photo in PHOTOS]


@pytest.fixture(scope="module")
def owl(shipped: BaseModel) -> Concept:
    training = train(
        shipped, PICTURES, name="owl", superclass="owl", masks=[photo.mask for photo in PHOTOS],
        config=shipped.defaults.train_config({"max_train_steps": 80}),
    )  # fmt: skip
    for _ in training:
        pass
    return training.concept()


@pytest.fixture(scope="module")
def evaluator() -> Evaluator:
    return Evaluator(EVALUATOR)


def draw(base: BaseModel, prompt: str, **concepts: ConceptUse) -> list[Image.Image]:
    options = {"num_images": 4, "seed": 40, "num_inference_steps": 12}
    return generate(base, prompt, concepts=concepts, config=base.defaults.generate_config(options))


def blueness(images: list[Image.Image]) -> float:
    """How much bluer than red the middle is: the owl is blue, owls are brown."""
    middles = [np.asarray(image.convert("RGB"), float)[16:48, 16:48] for image in images]
    return float(np.mean([m[..., 2] - m[..., 0] for m in middles]))


@pytest.mark.parametrize("locking", ["local", "global"])
def test_similarity_to_the_photos_rises_with_strength(
    shipped: BaseModel, owl: Concept, evaluator: Evaluator, locking: Locking
) -> None:
    def similarity(strength: float) -> float:
        options = {"num_images": 4, "seed": 40, "num_inference_steps": 12, "locking": locking}
        use = {"owl": ConceptUse(owl, beta_from_strength(strength))}
        config = shipped.defaults.generate_config(options)
        images = generate(shipped, "a photo of <owl> in the snow", concepts=use, config=config)
        return evaluator.image_similarity(images, PICTURES)

    low, middle, high = similarity(0.2), similarity(0.5), similarity(0.9)
    assert low < middle and low < high


def test_the_concept_is_nearer_to_its_photos_than_its_superclass_is(
    shipped: BaseModel, owl: Concept, evaluator: Evaluator
) -> None:
    prompt = "a photo of {} in the snow"
    plain = draw(shipped, prompt.format("a owl"))
    own = draw(shipped, prompt.format("<owl>"), owl=ConceptUse(owl, beta_from_strength(0.88)))
    assert evaluator.image_similarity(own, PICTURES) > evaluator.image_similarity(plain, PICTURES)
    assert blueness(own) > blueness(plain) + 10  # a measure that no model of ours has learned


def test_the_scene_still_follows_the_prompt(shipped: BaseModel, owl: Concept) -> None:
    use = ConceptUse(owl, beta_from_strength(0.88))
    night = draw(shipped, "a photo of <owl> at night", owl=use)
    snow = draw(shipped, "a photo of <owl> in the snow", owl=use)

    def corners(images: list[Image.Image]) -> float:
        return float(np.mean([np.asarray(image.convert("L"), float)[:8] for image in images]))

    assert corners(snow) > corners(night) + 80


def test_an_evaluator_that_is_none_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="name a CLIP model"):
        Evaluator(tmp_path)
