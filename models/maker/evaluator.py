"""Stage evaluator: a CLIPModel that tells captions apart, and looks of one category apart."""

from __future__ import annotations

import logging
import math
import time
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
)

from models.maker.catalogue import PLACES, SUBJECTS
from models.maker.checkpoints import Checkpoints
from models.maker.groups import LOOKS, SCENES, Groups, draw_trained
from models.maker.judging import figures, shrink
from models.maker.recipe import Recipe
from models.maker.stream import Stream
from models.maker.tokenizer import BOS, EOS, MAX_TOKENS, Encoder, make_tokenizer

log = logging.getLogger("maker")
IDENTITY_TEMPERATURE = 0.1
GROUP_SCENES = LOOKS * SCENES
LONGEST = 20  # tokens of the longest caption, begin and end included


def train_evaluator(recipe: Recipe, art_file: Path) -> Path:
    """Train, measure on held-out scenes and looks, save as CLIP does; returns the folder."""
    own, device = recipe.evaluator, recipe.device
    model = build_evaluator().to(device)
    heads = Heads().to(device)
    weights = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, own.rate, weight_decay=0.05, betas=(0.9, 0.98))
    checkpoints = Checkpoints(recipe.cache / "evaluator.ckpt", recipe.checkpoint_seconds)
    seen = 0
    if (state := checkpoints.load()) is not None:
        model.load_state_dict(state["model"])
        heads.load_state_dict(state["heads"])
        optimizer.load_state_dict(state["optimizer"])
        seen = state["seen"]
    shard_groups = max(2, min(256, recipe.shard_scenes // GROUP_SCENES))
    if device != "cpu":
        shard_groups = recipe.shard_scenes // GROUP_SCENES // 4
    per_batch, widest = own.batch // GROUP_SCENES, recipe.unet.widest
    per_shard = shard_groups * GROUP_SCENES * recipe.shard_passes
    stream = Stream(
        draw_trained, art_file, seed=recipe.seed + 3, size=shard_groups, workers=recipe.workers
    )
    loaded, groups = -1, None
    started, first = time.monotonic(), seen
    while seen < own.samples:
        index, within = divmod(seen, per_shard)
        if index != loaded:
            groups = stream.shard(index, lambda k: widest * _width(k * per_shard / own.samples))
            loaded = index
        assert groups is not None
        passes, position = divmod(within // GROUP_SCENES, shard_groups)
        random = torch.Generator().manual_seed(recipe.seed + index * 64 + passes)
        order = torch.randperm(shard_groups, generator=random)
        torch.manual_seed(recipe.seed * 1_000_003 + seen)  # how the pictures are shaken
        chosen, width = order[position : position + per_batch], _width(seen / own.samples)
        loss = _loss(model, heads, groups, chosen, device, width=width)
        for group in optimizer.param_groups:
            group["lr"] = _rate(own.rate, seen / own.samples)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        seen += per_batch * GROUP_SCENES
        if checkpoints.due() or seen >= own.samples:
            checkpoints.save(
                {
                    "model": model.state_dict(),
                    "heads": heads.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "seen": seen,
                }
            )
            speed = (seen - first) / (time.monotonic() - started)
            log.info("evaluator seen=%d loss=%.3f %.0f img/s", seen, loss.item(), speed)
            model.eval()
            for name, value in figures(model, recipe, art_file, rounds=1).items():
                log.info("evaluator seen=%d %s = %.3f", seen, name, value)
            model.train()
            save_evaluator(model, recipe.cache / "evaluator")
    return recipe.cache / "evaluator"


class Heads(nn.Module):
    """Plain labels teach the image tower what to see, far sooner than captions do; not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = nn.Linear(128, len(SUBJECTS) + len(PLACES) + 1)
        # Every patch names what it shows: 64 answers a picture instead of one.
        self.patch = nn.Linear(128, len(SUBJECTS) + 1)


def build_evaluator() -> CLIPModel:
    """About 1.5 million weights: 64 patches of 8 x 8, four layers; two layers of text."""
    tokenizer = make_tokenizer()
    end = int(tokenizer.convert_tokens_to_ids(EOS))
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=int(tokenizer.convert_tokens_to_ids(BOS)),
        eos_token_id=end,
        pad_token_id=end,
        projection_dim=128,
    )
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=64,
        patch_size=8,
        projection_dim=128,
    )
    model = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128)
    )
    torch.nn.init.normal_(model.text_model.embeddings.token_embedding.weight, std=0.2)
    # Which patches are neighbours need not be learnt.
    with torch.no_grad():
        places = model.vision_model.embeddings.position_embedding.weight  # (1 + 64, 128)
        places[1:] = 0.2 * _waves(8, 128)
    return model


def _waves(side: int, width: int) -> Tensor:
    """Sines and cosines of row and column, (side * side, width)."""
    speeds = 16.0 ** (-torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * speeds  # (side, width / 4)
    wave = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width / 2)
    rows, columns = wave[:, None].expand(-1, side, -1), wave[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(side * side, width)


def save_evaluator(model: CLIPModel, folder: Path) -> None:
    """A folder that CLIPModel and CLIPProcessor load: weights in half precision."""
    half = CLIPModel(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": 64},
        crop_size={"height": 64, "width": 64},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    ).save_pretrained(folder)


def embed_pictures(model: CLIPModel, pictures: Tensor) -> Tensor:
    """(n, 3, 64, 64) in -1..1 -> unit vectors (n, 128)."""
    pooled = model.vision_model(pixel_values=pictures).pooler_output
    return functional.normalize(model.visual_projection(pooled), dim=-1)


def embed_captions(model: CLIPModel, ids: Tensor) -> Tensor:
    """(n, 32) -> unit vectors (n, 128)."""
    pooled = model.text_model(input_ids=ids).pooler_output
    return functional.normalize(model.text_projection(pooled), dim=-1)


def _loss(
    model: CLIPModel, heads: Heads, groups: Groups, chosen: Tensor, device: str, *, width: float
) -> Tensor:
    rows = chosen.numpy()
    pictures = _shaken(shrink(groups.pictures[rows], device), width)
    covered = functional.avg_pool2d(pictures[:, 3:] / 2 + 0.5, 8)
    covered = covered.flatten(1)[..., None]  # (b, 64, 1): how much of a patch is the object
    # The pooled token is the first end token and attention is causal: the rest is not needed.
    told_ids = groups.ids[rows][..., :LONGEST].reshape(-1, LONGEST)
    wrong_ids = groups.wrong[rows][..., :LONGEST].reshape(-1, LONGEST)
    ids = torch.from_numpy(told_ids).long().to(device)
    wrong = torch.from_numpy(wrong_ids).long().to(device)
    out = model.vision_model(pixel_values=pictures[:, :3])
    pooled, patches = out.pooler_output, out.last_hidden_state[:, 1:]
    seen = functional.normalize(model.visual_projection(pooled), dim=-1)
    told = embed_captions(model, torch.cat([ids, wrong]))
    right, misleading = told[: len(ids)], told[len(ids) :].reshape(len(ids), 2, -1)
    scale = model.logit_scale.exp().clamp(max=100)
    # Equal captions are equally right: the target is shared between them.
    same_words = (ids[:, None] == ids[None]).all(-1).float()
    target = same_words / same_words.sum(1, keepdim=True)
    logits = scale * seen @ right.T
    own_wrong = scale * torch.einsum("bd,bkd->bk", seen, misleading)
    by_picture = torch.cat([logits, own_wrong], 1).log_softmax(1)[:, : len(ids)]
    matching = -(target * by_picture).sum(1).mean()
    matching = matching - (target * logits.T.log_softmax(1)).sum(1).mean()
    # All super-categories compete, whatever the batch holds: else backgrounds suffice to match.
    named = scale * seen @ embed_captions(model, _every_subject(device)).T
    subjects = torch.from_numpy(groups.subjects[rows]).to(device).repeat_interleave(GROUP_SCENES)
    places = torch.from_numpy(groups.places[rows]).to(device).flatten()
    by_label = heads.picture(pooled).split([len(SUBJECTS), len(PLACES) + 1], dim=1)
    by_patch = heads.patch(patches).log_softmax(-1)  # (b, 64, subjects + 1), the last: no object
    own = by_patch.gather(2, subjects[:, None, None].expand(-1, by_patch.shape[1], 1))
    naming_patches = -(covered * own + (1 - covered) * by_patch[..., -1:]).mean()
    total: Tensor = (
        matching
        + functional.cross_entropy(named, subjects)
        + functional.cross_entropy(by_label[0], subjects)
        + functional.cross_entropy(by_label[1], places) / 2
        + naming_patches
        + _identity_loss(seen, groups, rows, device) / 4
    )
    return total


@cache
def _every_subject(device: str) -> Tensor:
    told = [f"a photo of a {word}" for word in SUBJECTS]
    ids = Encoder(make_tokenizer()).encode(told)[:, :8]
    return torch.from_numpy(ids).long().to(device)


def _identity_loss(
    seen: Tensor, groups: Groups, rows: npt.NDArray[np.int64], device: str
) -> Tensor:
    """Two scenes of one look attract each other among all scenes of the batch."""
    names = torch.from_numpy(groups.identities[rows]).to(device)
    count = names.shape[1]
    group = torch.arange(len(names), device=device)[:, None].expand(-1, count)
    key = (group * 10_000_000 + names).repeat_interleave(2, 1).reshape(-1)
    itself = torch.eye(len(key), dtype=torch.bool, device=device)
    positive = (key[:, None] == key[None]) & ~itself
    logits = (seen @ seen.T / IDENTITY_TEMPERATURE).masked_fill(itself, -1e4).log_softmax(1)
    return -((logits * positive).sum(1) / positive.sum(1)).mean()


def _shaken(pictures: Tensor, width: float) -> Tensor:
    """A random zoom for the batch, a shift for each, light noise: crops are the same look."""
    zoom = 1 + width * float(torch.empty(1).uniform_(-0.25, 0.05))
    shift = width * torch.empty(len(pictures), 2).uniform_(-0.12, 0.12)
    theta = torch.zeros(len(pictures), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = zoom
    theta[:, :, 2] = shift
    grid = functional.affine_grid(
        theta.to(pictures.device), list(pictures.shape), align_corners=False
    )
    moved = functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    moved[:, :3] += 0.03 * torch.randn_like(moved[:, :3])
    return moved


def _width(share: float) -> float:
    """Centred objects first: a transformer that must find them learns no names for long."""
    return min(1.0, max(0.0, (share - 0.15) / 0.4))


def _rate(peak: float, share: float) -> float:
    return (
        peak * min(1.0, share / 0.03 + 0.02) * (0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2)
    )
