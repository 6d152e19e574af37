"""What every method does: learn a subject from photos, and draw it at a setting of its dial."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from benchmarks.paper.subjects import Photo, Subject
from perfusion_core import BaseModel

BASE_FOLDER = Path(__file__).parents[3] / "models/base"
_LATENTS_AT_ONCE = 20 * 16 * 16  # positions: twenty images of the shipped model


class Learned(Protocol):
    """One subject after some training steps."""

    stored_bytes: int  # what a user keeps of it, in float32
    steps: int
    seconds: float  # of training, until here

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], dial: float) -> list[Image.Image]:
        """One image per prompt ("{}" is the subject, article and all) and its seed."""

    def keep(self, file: Path) -> None:
        """Write what other figures need of it, if any does."""


class Method(Protocol):
    """A way to personalise the base model.

    `schedule` says after which steps images are drawn, and at which settings of the dial. A dial is
    what a user may turn after training; without any there is one value.
    """

    @property
    def name(self) -> str:
        """What tables call it."""

    @property
    def schedule(self) -> Mapping[int, tuple[float, ...]]:
        """Steps, and the dials to draw at after them."""

    @property
    def seed_count(self) -> int:
        """Images per prompt."""

    @property
    def usual(self) -> float:
        """The dial that a user would take, one of those at `usual_steps`."""

    @property
    def usual_steps(self) -> int:
        """The steps after which a user would stop."""

    @property
    def taught_as(self) -> str:
        """The name of the method whose training this is: its own, if it only draws otherwise."""

    @property
    def taught(self) -> Mapping[str, Any]:
        """What decides the training next to that name, the base model and the photos; as JSON."""

    @property
    def drawn(self) -> Mapping[str, Any]:
        """What decides the drawing next to the method's own name and its schedule; as JSON."""

    def learn(self, subject: Subject, photos: Sequence[Photo], *, seed: int) -> Iterator[Learned]:
        """Learn the subject; yields it after each of the schedule's steps."""

    def read(self, file: Path, subject: Subject, *, seconds: float) -> Learned | None:
        """Return what was kept as `file` after a training; None if that cannot be drawn again."""


def images_at_once(base: BaseModel) -> int:
    """Return how many images of the base model's own size share a step; one at least."""
    side = base.default_resolution // base.vae_factor
    return max(1, _LATENTS_AT_ONCE // side**2)


def noise_of(seeds: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Return the first noise of each seed, (n, *shape), the same for every method."""
    return torch.stack([torch.randn(shape, generator=_generator(seed)) for seed in seeds])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
