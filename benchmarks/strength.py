"""Does strength move the picture towards the photos? Similarities over a sweep, fixed seeds.

    python -m benchmarks.strength [--seeds N] [--steps N]

Trains the demo's two subjects and prints, for local and global locking, image similarity to the
photos and text similarity to the prompt, with the plain superclass beside them. The second image
measure is the distance between colour histograms, which no training of ours has ever seen.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from api.demo.subjects import SUBJECTS, photograph
from perfusion_core import BaseModel, Concept, ConceptUse, generate, train
from perfusion_core.config import Locking
from perfusion_core.similarity import Evaluator
from perfusion_core.strength import beta_from_strength

MODELS = Path(__file__).parents[1] / "models"
PROMPTS = (
    "a photo of a {} on the beach",
    "a photo of a {} at night",
    "a photo of a {} in the snow",
)
STRENGTHS = (0.2, 0.4, 0.6, 0.75, 0.9)
LOCKINGS: tuple[Locking, ...] = ("local", "global")


def main() -> None:
    """Print one table for each subject."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=None, help="training steps")
    arguments = parser.parse_args()
    base = BaseModel.load(MODELS / "base")
    evaluator = Evaluator(MODELS / "evaluator")
    options = {} if arguments.steps is None else {"max_train_steps": arguments.steps}
    for subject in SUBJECTS:
        photos = photograph(subject)
        pictures = [photo.picture for photo in photos]
        training = train(
            base, pictures, name=subject.name, superclass=subject.superclass,
            masks=[photo.mask for photo in photos], config=base.defaults.train_config(options),
        )  # fmt: skip
        for _ in training:
            pass
        concept = training.concept()
        print(f"{subject.name}: strength, image similarity, histogram overlap, text similarity")
        for locking in (None, *LOCKINGS):
            for strength in STRENGTHS if locking else (0.5,):
                scores = [
                    _scores(base, evaluator, concept, pictures, prompt, strength, locking,
                            arguments.seeds) for prompt in PROMPTS
                ]  # fmt: skip
                image, colours, text = np.mean(scores, axis=0)
                label = f"{locking} {strength:g}" if locking else "superclass"
                print(f"  {label:12} {image:6.3f} {colours:6.3f} {text:6.3f}")


def _scores(
    base: BaseModel,
    evaluator: Evaluator,
    concept: Concept,
    pictures: Sequence[Image.Image],
    prompt: str,
    strength: float,
    locking: Locking | None,
    seeds: int,
) -> tuple[float, float, float]:
    options = {"seed": 1000, "num_images": seeds, "locking": locking or "local"}
    use = {concept.name: ConceptUse(concept, beta_from_strength(strength))} if locking else {}
    word = concept.placeholder if locking else concept.superclass
    images = generate(
        base, prompt.format(word), concepts=use, config=base.defaults.generate_config(options)
    )
    return (
        evaluator.image_similarity(images, pictures),
        float(np.mean([histogram_overlap(one, other) for one in images for other in pictures])),
        evaluator.text_similarity(images, prompt.format(concept.superclass)),
    )


def histogram_overlap(one: Image.Image, other: Image.Image) -> float:
    """Histogram intersection of the central part of two pictures, in 64 colours."""

    def histogram(image: Image.Image) -> np.ndarray:
        pixels = np.asarray(image.convert("RGB").resize((64, 64)))[16:48, 16:48].reshape(-1, 3)
        cells = (pixels // 64).astype(int) @ (16, 4, 1)
        return np.bincount(cells, minlength=64) / len(cells)

    return float(np.minimum(histogram(one), histogram(other)).sum())


if __name__ == "__main__":
    main()
