"""Held-out prompts, how to judge their pictures, and the share of pictures that are right.

The product's own code samples the pictures, so a figure tells what a user gets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from models.maker.recipe import Recipe
from models.maker.scenes.catalogue import COLOURS, PLACES, SUBJECTS, WEARERS, WORN, withheld
from models.maker.stages.classifier import Classifier, classify, names_all, wears
from perfusion_core.base_model import BaseModel
from perfusion_core.config import GenerateConfig, read_defaults
from perfusion_core.sampling.sampler import ImageRequest, decode, start, step

_SUBJECTS, _PLACES, _COLOURS = list(SUBJECTS), list(PLACES), list(COLOURS)
ConceptEvaluator = Callable[
    [dict[str, Tensor], int], bool
]  # the classifier's logits, which picture
Question = tuple[str, ConceptEvaluator]


def draw_questions(seed: int, count: int) -> dict[str, list[Question]]:
    """Draw prompts of six kinds. Subject and place, or subject and colour, are untrained pairs."""
    rng = np.random.default_rng([seed, 99])
    wearers = sorted(WEARERS)
    plain = [_SUBJECTS[index % len(_SUBJECTS)] for index in range(count)]
    return {
        "right super-category": [(f"a photo of {_a(s)}", _names(s)) for s in plain],
        "right place": [
            (f"a photo of {_a(s)} {PLACES[p][0]}", _shows("place", _PLACES, p))
            for s, p in _pairs(rng, _PLACES, count)
        ],
        "right colour": [
            (f"a photo of {_a(c)} {s}", _shows("colour", _COLOURS, c))
            for s, c in _pairs(rng, _COLOURS, count)
        ],
        "both objects": [
            (f"{_a(left)} next to {_a(right)}", _names(left, right))
            for left, right in (
                (str(a), str(b))
                for a, b in (rng.choice(_SUBJECTS, 2, replace=False) for _ in range(count))
            )
        ],
        "all three objects": [
            (f"{_a(left)}, {_a(middle)} and {_a(right)}", _names(left, middle, right))
            for left, middle, right in (
                (str(a), str(b), str(c))
                for a, b, c in (rng.choice(_SUBJECTS, 3, replace=False) for _ in range(count))
            )
        ],
        "wearer and worn": [
            (f"{_a(wearer)} wearing {_a(worn)}", _wears(wearer, worn))
            for wearer, worn in (
                (str(rng.choice(wearers)), WORN[index % len(WORN)]) for index in range(count)
            )
        ],
    }


def load_base(recipe: Recipe) -> BaseModel:
    """Load the exported model. It is used without concepts, so it needs no covariance yet."""
    folder = recipe.cache / "export"
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    base = BaseModel.from_pipeline(pipeline, name=folder.name, device=recipe.device)
    base.defaults = read_defaults(folder)
    return base


def load_classifier(recipe: Recipe) -> Classifier:
    """Load the trained classifier of this cache."""
    classifier = Classifier().eval()
    state = torch.load(recipe.cache / "classifier.ckpt", map_location="cpu", weights_only=True)
    classifier.load_state_dict(state["model"])
    return classifier


@torch.no_grad()
def share_right(
    base: BaseModel,
    classifier: Classifier,
    questions: Sequence[Question],
    config: GenerateConfig,
    seeds: Sequence[int],
) -> float:
    """Return the share of pictures, one per question and seed, that show what was asked for."""
    right: list[bool] = []
    for seed in seeds:
        pictures = sample_prompts(base, [text for text, _ in questions], config, seed=seed)
        logits = classify(classifier, as_array(pictures))
        right += [judge(logits, row) for row, (_, judge) in enumerate(questions)]
    return float(np.mean(right))


def sample_prompts(
    base: BaseModel, prompts: Sequence[str], config: GenerateConfig, *, seed: int
) -> list[Image.Image]:
    """Sample one picture per prompt, several per step. Each prompt starts from its own noise."""
    pictures: list[Image.Image] = []
    size = 25 if base.device.type == "cpu" else 400
    for begin in range(0, len(prompts), size):
        trajectories = [
            start(base, ImageRequest(prompt=prompt, config=replace(config, seed=1000 * seed + k)))[
                0
            ]
            for k, prompt in enumerate(prompts[begin : begin + size], begin)
        ]
        while unfinished := [trajectory for trajectory in trajectories if not trajectory.finished]:
            step(base, unfinished)
        pictures += [decode(base, trajectory) for trajectory in trajectories]
    return pictures


def as_array(pictures: Sequence[Image.Image]) -> npt.NDArray[np.uint8]:
    """Stack pictures as (n, height, width, 3)."""
    return np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])


def _pairs(rng: np.random.Generator, words: list[str], count: int) -> list[tuple[str, str]]:
    kept = [(subject, word) for subject in _SUBJECTS for word in words if withheld(subject, word)]
    return [kept[int(index)] for index in rng.integers(len(kept), size=count)]


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeio" else f"a {word}"


def _names(*subjects: str) -> ConceptEvaluator:
    wanted = {_SUBJECTS.index(subject) for subject in subjects}
    return lambda logits, row: names_all(logits, row, wanted)


def _wears(wearer: str, worn: str) -> ConceptEvaluator:
    below, above = _SUBJECTS.index(wearer), _SUBJECTS.index(worn)
    return lambda logits, row: wears(logits, row, below, above)


def _shows(question: str, words: list[str], word: str) -> ConceptEvaluator:
    return lambda logits, row: int(logits[question][row].argmax()) == words.index(word)
