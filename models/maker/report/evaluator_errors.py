"""The evaluator's own errors, on scenes and looks that its training did not draw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel

from models.maker.groups import Groups, draw_groups
from models.maker.recipe import Recipe
from models.maker.scenes.catalogue import SUBJECTS
from models.maker.scenes.places import SIDE
from models.maker.stages.vae import to_tensor
from models.maker.stream import tools


def fit(model: CLIPModel, pictures: npt.NDArray[np.uint8], device: str) -> Tensor:
    """Turn (..., 128, 128, 3) bytes into the model's input, (n, 3, side, side) in -1..1."""
    flat = pictures.reshape(-1, *pictures.shape[-3:])
    return functional.avg_pool2d(
        to_tensor(flat, device), SIDE // int(model.config.vision_config.image_size)
    )


@torch.no_grad()
def figures(model: CLIPModel, recipe: Recipe, art_file: Path, rounds: int = 8) -> dict[str, float]:
    """Return the shares of right answers, from 0 to 1, on looks with and without outlines."""
    rounds, count = (1, 8) if recipe.name == "dry-run" else (rounds, 64)
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        for held_out in (False, True):
            for outlined in (False, True):
                kind = f"{'held-out' if held_out else 'trained'} looks"
                kind += ", outlined" if outlined else ""
                groups = draw_groups(
                    art_file,
                    [recipe.seed + 9, 3, number, int(held_out)],
                    count,
                    held_out=held_out,
                    outlined=outlined,
                    width=recipe.unet.widest,
                )
                for name, answers in _answers(model, recipe, art_file, groups).items():
                    found.setdefault(f"{name}, {kind}", []).extend(answers.float().tolist())
    return {name: float(np.mean(values)) for name, values in sorted(found.items())}


def _answers(model: CLIPModel, recipe: Recipe, art_file: Path, groups: Groups) -> dict[str, Tensor]:
    """Answer each question once per group."""
    seen, other = (
        _pictures(model, fit(model, groups.pictures[:, look], recipe.device)).reshape(
            len(groups.subjects), 2, -1
        )
        for look in (0, 1)
    )
    ids = torch.from_numpy(groups.ids[:, 0, 0]).long().to(recipe.device)
    wrong = torch.from_numpy(groups.wrong[:, 0, 0]).long().to(recipe.device)
    # Look 0 in its two places against look 1, whose first scene is in look 0's second place.
    same = (seen[:, 0] * seen[:, 1]).sum(-1)
    told = _captions(model, ids)
    best = (told @ seen[:, 0].T).argmax(1)
    right = (told * seen[:, 0]).sum(-1)
    found = {
        "same look nearer": same > (seen[:, 0] * other[:, 0]).sum(-1),
        "same look nearer than another in its place": same > (seen[:, 1] * other[:, 0]).sum(-1),
        "text to image top-1 of 64": (ids[best] == ids).all(-1),
        f"subject among {len(SUBJECTS)}": _named(
            model, recipe, art_file, seen[:, 0], groups.subjects
        ),
    }
    for column, what in enumerate(("subject", "place")):
        against = (_captions(model, wrong[:, column]) * seen[:, 0]).sum(-1)
        found[f"right caption over wrong {what}"] = right > against
    return found


def _named(
    model: CLIPModel, recipe: Recipe, art_file: Path, seen: Tensor, truth: npt.NDArray[np.int64]
) -> Tensor:
    """Return whether "a photo of a X" is nearest for the right X.

    The pictures show different places, and the captions name none.
    """
    _, encoder = tools(art_file)
    words = list(SUBJECTS)
    ids = encoder.encode([f"a photo of a {word}" for word in words])
    named = _captions(model, torch.from_numpy(ids).long().to(recipe.device))
    return (seen @ named.T).argmax(1).cpu() == torch.from_numpy(truth)


def _pictures(model: CLIPModel, pictures: Tensor) -> Tensor:
    pooled = model.vision_model(pixel_values=pictures).pooler_output
    return functional.normalize(model.visual_projection(pooled), dim=-1)


def _captions(model: CLIPModel, ids: Tensor) -> Tensor:
    pooled = model.text_model(input_ids=ids).pooler_output
    return functional.normalize(model.text_projection(pooled), dim=-1)
