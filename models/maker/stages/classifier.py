"""Stage classifier: super-category, place and colours of a picture, for the card only.

It is trained separately from the evaluator, so that it can judge both evaluator and base model. It
starts from a network trained on photographs, and learns from drawn scenes and from scenes that the
base model has redrawn.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.maker.checkpoints import Checkpoints
from models.maker.networks.sight import COARSE, FINE, Sight
from models.maker.recipe import Recipe
from models.maker.scenes.catalogue import COLOURS, PLACES, SUBJECTS
from models.maker.scenes.scene import Facts
from models.maker.scenes.softening import CELLS, share_of_cells, soften
from models.maker.stages.returned import draw_mixed, load_returned
from models.maker.stages.vae import to_tensor
from models.maker.stream import tools

log = logging.getLogger("maker")
_SUBJECTS, _PLACES, _COLOURS = list(SUBJECTS), list(PLACES), list(COLOURS)
UNKNOWN = -100  # a fact that the scene does not tell; the loss ignores it
ENLARGED = 160  # pixels per side
_WIDTH = 256
_FRESH = 1024  # scenes drawn at a time; each is used twice, softened in two ways


class Classifier(nn.Module):
    """Heads on EfficientNet-Lite1's maps, one for each question.

    One head names the object in each cell of 16 x 16 pixels. 64 answers per picture teach far
    faster than one, and objects do not compete. Two more heads name the colour of the cells with
    an object and the colour of the other cells.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sight = Sight()
        self.join = nn.Sequential(nn.Conv2d(FINE + COARSE, _WIDTH, 1), nn.SiLU())
        # The content of a cell also depends on its surroundings.
        self.around = nn.Sequential(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, groups=8), nn.SiLU())
        self.cells = nn.Conv2d(_WIDTH, len(_SUBJECTS) + 1, 1)  # the last answer is: no object
        self.place = nn.Linear(2 * _WIDTH, len(_PLACES) + 1)  # the last answer is: no place
        self.background = _colour_head()
        self.colour = _colour_head()

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Return logits per question for (n, 3, 128, 128) in -1..1; for subjects, area shares.

        Any side that is a multiple of 32 works; the cells stay 16 pixels wide.
        """
        fine, coarse = self.sight(pictures)
        maps = self.join(torch.cat([fine, functional.interpolate(coarse, scale_factor=2.0)], 1))
        maps = maps + self.around(maps)
        cells = self.cells(maps).flatten(2)  # (n, subjects + 1, 64)
        shares = cells.softmax(1)
        empty = shares[:, -1:].detach()
        # The maximum as well as the mean, because a place may be visible in a corner only.
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)
        seen = torch.cat(
            [maps, functional.adaptive_avg_pool2d(pictures, maps.shape[-2:])], 1
        ).flatten(2)
        return {
            "cells": cells,
            "subjects": shares[:, :-1].mean(2),
            "place": self.place(pooled),
            "background": self.background(_weighed(seen, empty)),
            "colour": self.colour(_weighed(seen, 1 - empty)),
        }


def _colour_head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(_WIDTH + 3, 64), nn.SiLU(), nn.Linear(64, len(_COLOURS)))


def _weighed(seen: Tensor, weight: Tensor) -> Tensor:
    mean: Tensor = (seen * weight).sum(2) / (weight.sum(2) + 1e-3)
    return mean


def train_classifier(recipe: Recipe, art_file: Path) -> None:
    """Train the classifier to the end of its schedule, with checkpoints."""
    own, device = recipe.classifier, recipe.device
    model = Classifier()
    model.sight = Sight.pretrained()
    model.to(device)
    pretrained, fresh = [], []
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            (pretrained if name.startswith("sight.") else fresh).append(weight)
    optimizer = torch.optim.AdamW(
        [{"params": pretrained}, {"params": fresh}], own.rate, weight_decay=0.02
    )
    checkpoints = Checkpoints(recipe.cache / "classifier.ckpt", recipe.checkpoint_seconds)
    seen = 0
    if (state := checkpoints.load()) is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        seen = state["seen"]
    painter, _ = tools(art_file)
    returned = load_returned(recipe)
    given = Told.of(returned.pictures, returned.facts, art_file)
    scenes = min(_FRESH, recipe.shard_scenes)
    half = own.batch // 2
    per_shard = 2 * scenes * 2  # as many redrawn scenes as drawn ones; two passes
    loaded, drawn = -1, given
    started, first = time.monotonic(), seen
    while seen < own.samples:
        index, within = divmod(seen, per_shard)
        if index != loaded:
            facts = tuple(
                draw_mixed([recipe.seed + 4, index, k], recipe, painter.art) for k in range(scenes)
            )
            pictures = np.stack([painter.paint(fact) for fact in facts])
            drawn, loaded = Told.of(pictures, facts, art_file), index
        random = torch.Generator().manual_seed(recipe.seed * 1_000_003 + seen)
        turn, start = divmod(within // 2, scenes)
        order = torch.Generator().manual_seed(recipe.seed + 2 * index + turn)
        chosen = torch.randperm(scenes, generator=order)[start : start + half]
        others = torch.randint(len(given.shown), (half,), generator=random)
        model.train()
        loss = _loss(model, drawn.rows(chosen).with_rows(given.rows(others)), device, random)
        for group, share in zip(optimizer.param_groups, (0.5, 1.0), strict=True):
            group["lr"] = share * _rate(own.rate, seen / own.samples)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*pretrained, *fresh], 5.0)
        optimizer.step()
        seen += 2 * half
        if checkpoints.due() or seen >= own.samples:
            checkpoints.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "seen": seen}
            )
            speed = (seen - first) / (time.monotonic() - started)
            log.info("classifier seen=%d loss=%.3f %.0f img/s", seen, loss.item(), speed)


def _rate(peak: float, share: float) -> float:
    """Return the learning rate: a warm-up, a constant part, and a decay of nearly half."""
    if share < 0.08:
        return peak * share / 0.08
    return peak * (1 if share < 0.55 else 0.01 + 0.99 * (1 - share) / 0.45)


@dataclass(frozen=True)
class Told:
    """Scenes with the right answers, one row per scene."""

    pictures: npt.NDArray[np.uint8]  # (n, 128, 128, 3)
    shown: npt.NDArray[np.uint8]  # (n, 128, 128), from Painter.shown
    answers: dict[str, Tensor]

    @classmethod
    def of(cls, pictures: npt.NDArray[np.uint8], facts: tuple[Facts, ...], art_file: Path) -> Told:
        """Return the pictures of these scenes with their answers."""
        painter, _ = tools(art_file)
        return cls(pictures, np.stack([painter.shown(f) for f in facts]), answers_of(facts))

    def rows(self, chosen: Tensor) -> Told:
        """Return the chosen scenes."""
        rows = chosen.numpy()
        answers = {name: right[chosen] for name, right in self.answers.items()}
        return Told(self.pictures[rows], self.shown[rows], answers)

    def with_rows(self, other: Told) -> Told:
        """Return these scenes followed by the other ones."""
        return Told(
            np.concatenate([self.pictures, other.pictures]),
            np.concatenate([self.shown, other.shown]),
            {name: torch.cat([r, other.answers[name]]) for name, r in self.answers.items()},
        )


def answers_of(facts: tuple[Facts, ...]) -> dict[str, Tensor]:
    """Return the right answers, one row per scene."""
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


def _loss(model: Classifier, told: Told, device: str, random: torch.Generator) -> Tensor:
    shown = torch.from_numpy(told.shown).to(device)
    pictures, shown = soften(to_tensor(told.pictures, device), shown, random)
    logits = model(pictures)
    cover = share_of_cells(shown, len(_SUBJECTS) + 1).transpose(1, 2)
    loss = 4 * functional.cross_entropy(logits["cells"], cover)
    shares = logits["subjects"] / logits["subjects"].sum(1, keepdim=True)
    there = told.answers["subjects"].to(device)
    loss = loss - (there / there.sum(1, keepdim=True) * (shares + 1e-6).log()).sum(1).mean()
    for question in ("place", "background", "colour"):
        right = told.answers[question]
        if bool((right != UNKNOWN).any()):
            loss = loss + functional.cross_entropy(logits[question], right.to(device)) / 2
    return loss


@torch.no_grad()
def classify(model: Classifier, pictures: npt.NDArray[np.uint8]) -> dict[str, Tensor]:
    """Classify bytes (n, 128, 128, 3); the answers are on the CPU.

    Objects are named twice, in the picture and in an enlarged copy. Of scenes with three objects in
    a row, all three were named in 78 % at 128 pixels, and in 91 % with both sizes together.
    """
    parts = []
    for start in range(0, len(pictures), 64):
        given = to_tensor(pictures[start : start + 64], _device(model))
        found = model(given)
        larger = functional.interpolate(
            given, ENLARGED, mode="bicubic", align_corners=False, antialias=True
        )
        found["subjects"] = (found["subjects"] + model(larger)["subjects"]) / 2
        parts.append(found)
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def _device(model: Classifier) -> str:
    return str(next(model.parameters()).device)


def names_all(logits: dict[str, Tensor], row: int, wanted: set[int]) -> bool:
    """Return whether the wanted objects have the largest shares of the picture."""
    largest = logits["subjects"][row].topk(len(wanted)).indices.tolist()
    return set(largest) == wanted


def wears(logits: dict[str, Tensor], row: int, wearer: int, worn: int) -> bool:
    """Return whether both are named, and the worn object is higher up than its wearer."""
    if not names_all(logits, row, {wearer, worn}):
        return False
    shares = logits["cells"][row].softmax(0)
    heights = torch.arange(CELLS).repeat_interleave(CELLS).float()
    middle = [float((shares[k] * heights).sum() / shares[k].sum()) for k in (worn, wearer)]
    return middle[0] < middle[1]
