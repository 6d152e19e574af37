"""The concepts that verdicts are calibrated on: sixteen made as usual, and eight made badly."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageOps

from benchmarks.paper.methods.perfusion import draw_all
from benchmarks.paper.subjects import REPORTED, TUNED, Subject, photograph
from perfusion_core import BaseModel, Concept, ConceptUse, train
from perfusion_core.callbacks import run_at_once
from perfusion_core.evaluation.curve import recommended
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.evaluators.training_evaluator import TrainingEvaluator
from perfusion_core.strength import beta_from_strength

Way = Literal["usual", "ten steps", "wrong masks", "mixed pictures", "four times the steps"]

_PLAIN = "a photo of {}"
# No training, eval prompt or curve of a concept has these places or any of the seeds.
_PLACES = ("in the sea", "in a room", "in space", "at sunset")
_FIRST_SEED = 7001
PROMPTS = (*[_PLAIN] * 4, *[f"{_PLAIN} {place}" for place in _PLACES])
"""What is drawn for people to look at, {} in the concept's place."""
SEEDS = tuple(range(_FIRST_SEED, _FIRST_SEED + len(PROMPTS)))


@dataclass(frozen=True)
class Made:
    """A concept, and how it is made; its pictures may be mixed with another subject's."""

    subject: Subject
    way: Way = "usual"
    other: Subject | None = None

    @property
    def name(self) -> str:
        """Its name, and its file's."""
        return self.subject.name if self.way == "usual" else f"{self.subject.name}, {self.way}"


_MORE = (
    Subject("teacup-without-handle", "cup"),
    Subject("house", "house"),
    Subject("guitar", "guitar"),
    Subject("bear", "bear", wearer=True),
)
USUAL = tuple(Made(subject) for subject in (*REPORTED, *_MORE))
"""One look, never drawn in the base model's training, of each of sixteen super-categories."""

_OF = {subject.name: subject for subject in (*REPORTED, *TUNED, *_MORE)}
BAD = (
    Made(_OF["cat-face"], "ten steps"),
    Made(_OF["sport-utility-vehicle"], "ten steps"),
    Made(_OF["penguin"], "wrong masks"),
    Made(_OF["billed-cap"], "wrong masks"),
    Made(_OF["robot"], "mixed pictures", _OF["teddy-bear"]),
    Made(_OF["owl"], "mixed pictures", _OF["tropical-fish"]),
    Made(_OF["dog-face"], "four times the steps"),
    Made(_OF["taxi"], "four times the steps"),
)
ALL = (*USUAL, *BAD)


def pictures_of(made: Made, *, side: int) -> tuple[list[Image.Image], list[Image.Image]]:
    """Return the five photos that a concept is made of, and their masks."""
    photos = list(photograph(made.subject, side=side))
    if made.other is not None:
        photos[3:] = photograph(made.other, side=side)[3:]
    masks = [photo.mask for photo in photos if photo.mask is not None]
    if made.way == "wrong masks":  # everything but the subject
        masks = [ImageOps.invert(mask) for mask in masks]
    return [photo.picture for photo in photos], masks


def options_of(made: Made, base: BaseModel) -> dict[str, Any]:
    """The training options that differ from the base model's own."""
    usual = base.defaults.train_config().max_train_steps
    match made.way:
        case "ten steps":
            return {"max_train_steps": 10}
        case "four times the steps":  # all of them
            return {"max_train_steps": 4 * usual, "early_stopping": False}
        case _:
            return {}


def teach(made: Made, base: BaseModel, evaluator: Path) -> Concept:
    """Make a concept as the product does: scored during training, and measured at the end."""
    pictures, masks = pictures_of(made, side=base.default_resolution)
    training = train(
        base, pictures, name="x", superclass=made.subject.superclass, masks=masks,
        config=base.defaults.train_config(options_of(made, base)),
    )  # fmt: skip
    followed = TrainingEvaluator(
        training,
        evaluator=Evaluator(evaluator, device=str(base.device)),
        pictures=pictures,
        run_on_device=run_at_once,
        check=lambda: None,
    )
    for _ in training:
        followed.evaluate_when_due()
    concept = followed.evaluated_concept()
    if concept.curve is None:
        raise RuntimeError(f"{made.name} could not be judged: see the log.")
    return concept


def draw(concept: Concept, base: BaseModel) -> list[Image.Image]:
    """Draw the images that people look at: PROMPTS at the recommended strength, with defaults."""
    texts = [prompt.format("<x>") for prompt in PROMPTS]
    uses = {"x": use_of(concept)}
    return draw_all(base, texts, SEEDS, uses, base.defaults.generate_config())


def use_of(concept: Concept) -> ConceptUse:
    """A judged concept at its recommended strength."""
    assert concept.curve is not None
    return ConceptUse(concept, beta_from_strength(recommended(concept.curve).strength))
