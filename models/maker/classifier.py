"""Stage classifier: super-category, place and colours of a picture, for the benchmark only.

Trained apart from the evaluator and shown nothing but scenes, so that it can judge both.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.maker.catalogue import COLOURS, PLACES, SUBJECTS
from models.maker.checkpoints import Checkpoints
from models.maker.recipe import Recipe
from models.maker.scenes import Facts
from models.maker.stream import Shard, Stream, draw_shard
from models.maker.vae import to_tensor

log = logging.getLogger("maker")
_SUBJECTS, _PLACES, _COLOURS = list(SUBJECTS), list(PLACES), list(COLOURS)
UNKNOWN = -100  # a fact that the scene does not tell; the loss ignores it


class Classifier(nn.Module):
    """A small convolutional network with one head per question."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels in (width, 2 * width, 4 * width, 6 * width):
            layers += [
                nn.Conv2d(before, channels, 3, stride=2, padding=1),
                nn.GroupNorm(8, channels),
                nn.SiLU(),
                nn.Conv2d(channels, channels, 3, padding=1),
                nn.GroupNorm(8, channels),
                nn.SiLU(),
            ]
            before = channels
        self.body = nn.Sequential(*layers)
        self.subjects = nn.Linear(before, len(_SUBJECTS))  # several may be there: no softmax
        self.place = nn.Linear(before, len(_PLACES) + 1)  # the last one: no place
        self.background = nn.Linear(before, len(_COLOURS))
        self.colour = nn.Linear(before, len(_COLOURS))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Logits per question for (n, 3, 64, 64) in -1..1."""
        maps = self.body(pictures)
        # The mean for what fills the picture, the maximum for what is somewhere.
        pooled = maps.mean((2, 3)) + maps.amax((2, 3))
        return {
            "subjects": self.subjects(pooled),
            "place": self.place(pooled),
            "background": self.background(pooled),
            "colour": self.colour(pooled),
        }


def train_classifier(recipe: Recipe, art_file: Path) -> None:
    """Train, state the errors on held-out scenes, save."""
    own, device = recipe.classifier, recipe.device
    model = Classifier().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), own.rate, weight_decay=0.02)
    checkpoints = Checkpoints(recipe.cache / "classifier.ckpt", recipe.checkpoint_seconds)
    seen = 0
    if (state := checkpoints.load()) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        seen = state["seen"]
    stream = Stream(
        draw_shard,
        art_file,
        seed=recipe.seed + 4,
        size=recipe.shard_scenes,
        workers=recipe.workers,
    )
    per_shard = recipe.shard_scenes * 2
    loaded, shard, started, first = -1, None, time.monotonic(), seen
    while seen < own.samples:
        index, within = divmod(seen, per_shard)
        if index != loaded:
            shard, loaded = stream.shard(index, lambda _: recipe.unet.widest), index
        assert shard is not None
        start = within % recipe.shard_scenes
        loss = _loss(model, shard, start, own.batch, device)
        for group in optimizer.param_groups:
            group["lr"] = own.rate * (0.02 + 0.49 * (1 + math.cos(math.pi * seen / own.samples)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        seen += min(own.batch, recipe.shard_scenes - start)
        if checkpoints.due() or seen >= own.samples:
            checkpoints.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "seen": seen}
            )
            speed = (seen - first) / (time.monotonic() - started)
            log.info("classifier seen=%d loss=%.3f %.0f img/s", seen, loss.item(), speed)
            for name, value in _figures(model, recipe, art_file).items():
                log.info("classifier seen=%d %s = %.3f", seen, name, value)


def answers_of(facts: tuple[Facts, ...]) -> dict[str, Tensor]:
    """The right answers, one row per scene."""
    subjects = torch.zeros(len(facts), len(_SUBJECTS))
    place, background, colour = [], [], []
    for row, fact in enumerate(facts):
        for thing in fact.things:
            subjects[row, _SUBJECTS.index(thing.subject)] = 1
            if thing.worn is not None:
                subjects[row, _SUBJECTS.index(thing.worn)] = 1
        gray = fact.style in ("sketch", "black and white photo")
        place.append(len(_PLACES) if fact.place is None else _PLACES.index(fact.place))
        told = fact.plain_word if fact.place is None and not gray else None
        background.append(UNKNOWN if told is None else _COLOURS.index(told))
        word = fact.things[0].colour if len(fact.things) == 1 and not gray else None
        colour.append(UNKNOWN if word is None else _COLOURS.index(word))
    return {
        "subjects": subjects,
        "place": torch.tensor(place),
        "background": torch.tensor(background),
        "colour": torch.tensor(colour),
    }


def _loss(model: Classifier, shard: Shard, start: int, count: int, device: str) -> Tensor:
    answers = answers_of(shard.facts[start : start + count])
    logits = model(to_tensor(shard.pictures[start : start + count], device))
    subjects = answers.pop("subjects").to(device)
    loss = 20 * functional.binary_cross_entropy_with_logits(logits["subjects"], subjects)
    for question, right in answers.items():
        if bool((right != UNKNOWN).any()):
            loss = loss + functional.cross_entropy(logits[question], right.to(device))
    return loss


@torch.no_grad()
def _figures(model: Classifier, recipe: Recipe, art_file: Path) -> dict[str, float]:
    shard = draw_shard(
        art_file,
        [recipe.seed + 9, 4],
        32 if recipe.name == "dry-run" else 512,
        recipe.unet.widest,
    )
    logits = model(to_tensor(shard.pictures, recipe.device))
    answers = answers_of(shard.facts)
    found = {}
    alone = np.array([len(f.things) == 1 and f.things[0].worn is None for f in shard.facts])
    best = logits["subjects"].argmax(1).cpu()
    right = answers["subjects"][torch.arange(len(best)), best] > 0
    found["one object named"] = float(right[torch.from_numpy(alone)].float().mean())
    several = ~torch.from_numpy(alone)
    two = logits["subjects"].cpu().topk(2, 1).indices
    both = answers["subjects"].gather(1, two).sum(1) == answers["subjects"].sum(1).clamp(max=2)
    found["both objects named"] = float(both[several].float().mean())
    for question in ("place", "background", "colour"):
        known = answers[question] != UNKNOWN
        hits = logits[question].argmax(1).cpu() == answers[question]
        found[question] = float(hits[known].float().mean())
    return found
