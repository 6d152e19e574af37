"""Stage classifier: super-category, place and colours of a picture, for the benchmark only.

Trained apart from the evaluator and shown nothing but scenes, so that it can judge both.
"""

from __future__ import annotations

import logging
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.maker.catalogue import COLOURS, PLACES, SUBJECTS
from models.maker.checkpoints import Checkpoints
from models.maker.places import SIDE
from models.maker.recipe import Recipe
from models.maker.scenes import Facts, draw_facts
from models.maker.stream import Shard, Stream, draw_shard, tools
from models.maker.vae import to_tensor

log = logging.getLogger("maker")
_SUBJECTS, _PLACES, _COLOURS = list(SUBJECTS), list(PLACES), list(COLOURS)
UNKNOWN = -100  # a fact that the scene does not tell; the loss ignores it


class Classifier(nn.Module):
    """A small convolutional network with one head per question.

    Which objects are there is asked of each cell of 8 x 8 pixels: 256 answers a picture teach far
    sooner than one, and two objects do not compete.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        channels = (3, width, 2 * width, 4 * width, 6 * width)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.SiLU(),
                nn.Conv2d(after, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.SiLU(),
            )
            for before, after in pairwise(channels)
        )
        # The last answer: no object.
        self.cells = nn.Conv2d(channels[-2] + channels[-1], len(_SUBJECTS) + 1, 1)
        self.place = nn.Linear(channels[-1], len(_PLACES) + 1)  # the last one: no place
        self.background = nn.Linear(channels[-1], len(_COLOURS))
        self.colour = nn.Linear(channels[-1], len(_COLOURS))

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Logits per question for (n, 3, 128, 128) in -1..1; subjects: shares of the picture."""
        maps = pictures
        for stage in self.stages:
            fine, maps = maps, stage(maps)
        # What a cell shows needs its surroundings too.
        around = functional.interpolate(maps, scale_factor=2.0)
        cells = self.cells(torch.cat([fine, around], dim=1)).flatten(2)  # (n, subjects + 1, 256)
        # The mean for what fills the picture, the maximum for what is somewhere.
        pooled = maps.mean((2, 3)) + maps.amax((2, 3))
        return {
            "cells": cells,
            "subjects": cells.softmax(1)[:, :-1].mean(2),
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
    loaded, shard, cover = -1, None, torch.empty(0)
    started, first = time.monotonic(), seen
    while seen < own.samples:
        index, within = divmod(seen, per_shard)
        if index != loaded:
            shard, loaded = stream.shard(index, lambda _: recipe.unet.widest), index
            cover = coverage(shard, art_file)
        assert shard is not None
        start = within % recipe.shard_scenes
        loss = _loss(model, shard, cover, start, own.batch, device)
        for group in optimizer.param_groups:
            group["lr"] = _rate(own.rate, seen / own.samples)
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
            model.eval()
            for name, value in _figures(model, recipe, art_file).items():
                log.info("classifier seen=%d %s = %.3f", seen, name, value)
            model.train()


def _rate(peak: float, share: float) -> float:
    """Up for a fifth, then down: batch normalisation bears a high rate, and learns by it."""
    return peak * (share / 0.2 if share < 0.2 else (1.001 - share) / 0.8)


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


def coverage(shard: Shard, art_file: Path) -> Tensor:
    """(n, subjects + 1, 256): how much of each cell of 8 x 8 pixels is which object, or none."""
    painter, _ = tools(art_file)
    cover = torch.zeros(len(shard.facts), len(_SUBJECTS) + 1, (SIDE // 8) ** 2)
    for row, fact in enumerate(shard.facts):
        for number, thing in enumerate(fact.things):
            share = torch.from_numpy(painter.mask(fact, number).astype(np.float32) / 255)
            cells = functional.avg_pool2d(share[None], 8).flatten()
            cover[row, _SUBJECTS.index(thing.subject)] += cells
    # Later objects hide earlier ones a little: shares above the whole are scaled back.
    cover /= cover.sum(1, keepdim=True).clamp(min=1)
    cover[:, -1] = 1 - cover[:, :-1].sum(1)
    return cover


def _loss(
    model: Classifier, shard: Shard, cover: Tensor, start: int, count: int, device: str
) -> Tensor:
    chosen = slice(start, start + count)
    answers = answers_of(shard.facts[chosen])
    logits = model(to_tensor(shard.pictures[chosen], device))
    loss = 4 * functional.cross_entropy(logits["cells"], cover[chosen].to(device))
    shares = logits["subjects"] / logits["subjects"].sum(1, keepdim=True)
    there = answers["subjects"].to(device)
    loss = loss - (there / there.sum(1, keepdim=True) * (shares + 1e-6).log()).sum(1).mean()
    for question in ("place", "background", "colour"):
        right = answers[question]
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
    several = torch.tensor([len(fact.things) == 2 for fact in shard.facts])
    two = logits["subjects"].cpu().topk(2, 1).indices
    both = answers["subjects"].gather(1, two).sum(1) == answers["subjects"].sum(1).clamp(max=2)
    found["both objects named"] = float(both[several].float().mean())
    for question in ("place", "background", "colour"):
        known = answers[question] != UNKNOWN
        hits = logits[question].argmax(1).cpu() == answers[question]
        found[question] = float(hits[known].float().mean())
    return found


@torch.no_grad()
def named_of_held_out_looks(model: Classifier, recipe: Recipe, art_file: Path) -> float:
    """The share of right names of single objects whose looks no training draws (on the CPU)."""
    painter, _ = tools(art_file)
    kept = [subject for subject in _SUBJECTS if painter.art.of(subject, True)]
    pictures, right = [], []
    for index in range(16 if recipe.name == "dry-run" else 512):
        rng = np.random.default_rng([recipe.seed + 9, 5, index])
        subject = kept[index % len(kept)]
        facts = draw_facts(
            rng, painter.art, width=recipe.unet.widest, subject=subject, held_out=True
        )
        pictures.append(painter.paint(facts))
        right.append(_SUBJECTS.index(subject))
    shown = model(to_tensor(np.stack(pictures), "cpu"))["subjects"].argmax(1)
    return float((shown == torch.tensor(right)).float().mean())
