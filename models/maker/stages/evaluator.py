"""Stage evaluator: a CLIPModel that distinguishes captions, and looks of one category."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
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

from models.maker.checkpoints import Checkpoints
from models.maker.groups import LOOKS, SCENES, Groups, draw_trained, returned_groups
from models.maker.networks.precision import autocast
from models.maker.networks.sight import COARSE, FINE, Sight
from models.maker.networks.tokenizer import BOS, EOS, MAX_TOKENS, Encoder, make_tokenizer
from models.maker.recipe import Recipe
from models.maker.report.evaluator_errors import figures
from models.maker.scenes.catalogue import PLACES, SUBJECTS
from models.maker.scenes.places import SIDE
from models.maker.scenes.softening import CELLS, share_of_cells, soften
from models.maker.stages.returned import load_returned
from models.maker.stages.vae import to_tensor
from models.maker.stream import Stream

log = logging.getLogger("maker")
IDENTITY_TEMPERATURE = 0.1
GROUP_SCENES = LOOKS * SCENES
WIDTH, PATCH = 128, SIDE // CELLS
SIGHTED_EVERY = 4  # the pretrained network is slow, and says much about each picture
PASSES = 3  # over a shard of groups
RETURNED_EVERY = 3  # drawn groups for each group that the model has redrawn
UNKNOWN = -100  # the loss ignores it


def train_evaluator(recipe: Recipe, art_file: Path) -> Path:
    """Train, measure on held-out scenes and looks, save in CLIP's format; return the folder."""
    own, device = recipe.evaluator, recipe.device
    model = build_evaluator(recipe.warm_evaluator).to(device)
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
    sight, returned = Sight.pretrained().to(device), load_returned(recipe)
    shard_groups = max(2, min(256, recipe.shard_scenes // GROUP_SCENES))
    if device != "cpu":
        shard_groups = recipe.shard_scenes // GROUP_SCENES // 4
    shard_returned = max(1, shard_groups // RETURNED_EVERY)
    per_batch, widest = own.batch // GROUP_SCENES, recipe.unet.widest
    shard_all = (shard_groups + shard_returned) // per_batch * per_batch
    per_shard = shard_all * GROUP_SCENES * PASSES
    stream = Stream(
        draw_trained, art_file, seed=recipe.seed + 3, size=shard_groups, workers=recipe.workers
    )
    curriculum = _wide if recipe.warm_evaluator else _width
    loaded, groups = -1, None
    started, first = time.monotonic(), seen
    while seen < own.samples:
        index, within = divmod(seen, per_shard)
        if index != loaded:
            wide = widest * curriculum(index * per_shard / own.samples)
            drawn = stream.shard(index, lambda k: widest * curriculum(k * per_shard / own.samples))
            seed = [recipe.seed + 3, 1, index]
            back = returned_groups(art_file, seed, shard_returned, returned, width=wide)
            groups, loaded = Groups.joined([drawn, back]), index
        assert groups is not None
        passes, position = divmod(within // GROUP_SCENES, shard_all)
        random = torch.Generator().manual_seed(recipe.seed + index * 64 + passes)
        order = torch.randperm(len(groups.subjects), generator=random)
        random.manual_seed(recipe.seed * 1_000_003 + seen)  # for the softening of the pictures
        chosen, width = order[position : position + per_batch], curriculum(seen / own.samples)
        batch = _batch(groups, chosen, device, random, width)
        loss = _loss(model, heads, batch, sight.cells(batch.pictures[::SIGHTED_EVERY]))
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
            save_evaluator(model, recipe.cache / "evaluator")
    for name, value in figures(model.eval(), recipe, art_file, rounds=1).items():
        log.info("evaluator seen=%d %s = %.3f", seen, name, value)
    return recipe.cache / "evaluator"


class Heads(nn.Module):
    """Heads for training only: plain labels teach the image tower far faster than captions."""

    def __init__(self) -> None:
        super().__init__()
        self.picture = nn.Linear(WIDTH, len(SUBJECTS) + len(PLACES) + 1)
        # Every patch names what it shows, so a picture gives 64 answers instead of one.
        self.patch = nn.Linear(WIDTH, len(SUBJECTS) + 1)
        # Every patch also learns the features of a network trained on photographs. Looks that no
        # training draws then get meaningful embeddings.
        self.sight = nn.Sequential(
            nn.Linear(WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, FINE + COARSE)
        )
        self.norm = nn.BatchNorm1d(FINE + COARSE, affine=False)


def build_evaluator(earlier: Path | None) -> CLIPModel:
    """Build a CLIPModel of about 1.8 million weights.

    It has 64 patches of 16 x 16 pixels and six layers, and two layers of text. It can start from an
    earlier evaluator with half the size of input and patches, and with fewer layers. A patch then
    weighs means of 2 x 2 pixels as the old one weighed pixels, and a new layer changes nothing at
    first.
    """
    tokenizer = make_tokenizer()
    end = int(tokenizer.convert_tokens_to_ids(EOS))
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=int(tokenizer.convert_tokens_to_ids(BOS)),
        eos_token_id=end,
        pad_token_id=end,
        projection_dim=WIDTH,
    )
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=6,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=WIDTH,
    )
    model = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH)
    )
    # On a CPU in bfloat16 the backward pass of fused attention takes twice as long as products.
    model.set_attn_implementation("eager")
    torch.nn.init.normal_(model.text_model.embeddings.token_embedding.weight, std=0.2)
    # The model need not learn which patches are neighbours.
    with torch.no_grad():
        places = model.vision_model.embeddings.position_embedding.weight  # (1 + 64, WIDTH)
        places[1:] = 0.2 * _waves(CELLS, WIDTH)
        if earlier is not None:
            _copy_weights(earlier, model)
    return model


def _copy_weights(folder: Path, model: CLIPModel) -> None:
    state = CLIPModel.from_pretrained(folder).float().state_dict()
    key = "vision_model.embeddings.patch_embedding.weight"
    factor = PATCH // state[key].shape[-1]
    state[key] = state[key].repeat_interleave(factor, 2).repeat_interleave(factor, 3) / factor**2
    lacking = model.load_state_dict(state, strict=False).missing_keys
    layers = {name.rpartition(".layers.")[2].partition(".")[0] for name in lacking}
    for number in layers:
        layer = model.vision_model.encoder.layers[int(number)]
        for last in (layer.self_attn.out_proj, layer.mlp.fc2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)


def _waves(side: int, width: int) -> Tensor:
    """Return sines and cosines of row and column, (side * side, width)."""
    speeds = 16.0 ** (-torch.arange(width // 4) / (width // 4))
    angles = torch.arange(side)[:, None] * speeds  # (side, width / 4)
    wave = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, width / 2)
    rows, columns = wave[:, None].expand(-1, side, -1), wave[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(side * side, width)


def save_evaluator(model: CLIPModel, folder: Path) -> None:
    """Save a folder that CLIPModel and CLIPProcessor load, with weights in half precision."""
    half = CLIPModel(model.config)
    half.load_state_dict(model.state_dict())
    half.half().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    ).save_pretrained(folder)


def embed_captions(model: CLIPModel, ids: Tensor) -> Tensor:
    """Embed token ids (n, 32) as unit vectors (n, 128)."""
    with autocast(str(ids.device)):
        pooled = model.text_model(input_ids=ids).pooler_output.float()
    return functional.normalize(model.text_projection(pooled), dim=-1)


@dataclass(frozen=True)
class _Batch:
    """Tensors on the device, one row per picture; `identities` has one row per group."""

    pictures: Tensor  # (b, 3, 128, 128)
    cover: Tensor  # (b, 64, subjects + 1): share of each object, or of none, in a patch
    ids: Tensor  # (b, length)
    wrong: Tensor  # (2 b, length)
    subjects: Tensor  # (b,)
    alone: Tensor  # (b,): whether no other object is there
    places: Tensor  # (b,)
    identities: Tensor  # (groups, looks)


def _batch(
    groups: Groups, chosen: Tensor, device: str, random: torch.Generator, width: float
) -> _Batch:
    rows = chosen.numpy()
    given = to_tensor(groups.pictures[rows].reshape(-1, SIDE, SIDE, 3), device)
    shown = torch.from_numpy(groups.shown[rows].reshape(-1, SIDE, SIDE)).to(device)
    pictures, shown = soften(given, shown, random, width=width)
    cover = share_of_cells(shown, len(SUBJECTS) + 1)
    subjects = torch.from_numpy(groups.subjects[rows]).repeat_interleave(GROUP_SCENES).to(device)
    others = cover[..., :-1].sum(1).scatter(1, subjects[:, None], 0.0)
    # Later tokens are not needed: the pooled one is the first end token, attention is causal.
    every = np.concatenate([groups.ids[rows][..., None, :], groups.wrong[rows]], axis=-2)
    longest = int((every == every.max()).argmax(-1).max()) + 1
    told = groups.ids[rows][..., :longest].reshape(-1, longest)
    wrong = groups.wrong[rows][..., :longest].reshape(-1, longest)
    return _Batch(
        pictures,
        cover,
        torch.from_numpy(told).long().to(device),
        torch.from_numpy(wrong).long().to(device),
        subjects,
        others.sum(1) == 0,
        torch.from_numpy(groups.places[rows]).to(device).flatten(),
        torch.from_numpy(groups.identities[rows]).to(device),
    )


def _loss(model: CLIPModel, heads: Heads, batch: _Batch, aims: Tensor) -> Tensor:
    # Transformers run in bfloat16, comparisons in float32, as a temperature magnifies every error.
    with autocast(str(batch.ids.device)):
        out = model.vision_model(pixel_values=batch.pictures)
    pooled, patches = out.pooler_output.float(), out.last_hidden_state[:, 1:].float()
    seen = functional.normalize(model.visual_projection(pooled), dim=-1)
    ids = batch.ids
    told = embed_captions(model, torch.cat([ids, batch.wrong]))
    right, misleading = told[: len(ids)], told[len(ids) :].reshape(len(ids), 2, -1)
    scale = model.logit_scale.exp().clamp(max=100)
    # Equal captions are equally right, so they share the target.
    same_words = (ids[:, None] == ids[None]).all(-1).float()
    target = same_words / same_words.sum(1, keepdim=True)
    logits = scale * seen @ right.T
    own_wrong = scale * torch.einsum("bd,bkd->bk", seen, misleading)
    by_picture = torch.cat([logits, own_wrong], 1).log_softmax(1)[:, : len(ids)]
    matching = -(target * by_picture).sum(1).mean()
    matching = matching - (target * logits.T.log_softmax(1)).sum(1).mean()
    # All super-categories compete in every batch; otherwise backgrounds would suffice to match.
    named = scale * seen @ embed_captions(model, _every_subject(str(ids.device))).T
    # With another object in the scene either name is right.
    subjects = batch.subjects.where(batch.alone, torch.tensor(UNKNOWN, device=ids.device))
    by_label = heads.picture(pooled).split([len(SUBJECTS), len(PLACES) + 1], dim=1)
    by_patch = heads.patch(patches).log_softmax(-1)  # (b, 64, subjects + 1)
    naming_patches = -(batch.cover * by_patch).sum(-1).mean()
    aimed = heads.norm(aims.flatten(0, 1)).view_as(aims)
    looked = heads.sight(patches[::SIGHTED_EVERY])
    near = functional.cosine_similarity(looked, aimed, dim=-1).mean()
    total: Tensor = (
        matching
        + functional.cross_entropy(named, subjects, ignore_index=UNKNOWN)
        + functional.cross_entropy(by_label[0], subjects, ignore_index=UNKNOWN)
        + functional.cross_entropy(by_label[1], batch.places) / 2
        + naming_patches
        + _identity_loss(seen, batch.identities) / 2
        + (1 - near)
    )
    return total


@cache
def _every_subject(device: str) -> Tensor:
    told = [f"a photo of a {word}" for word in SUBJECTS]
    ids = Encoder(make_tokenizer()).encode(told)[:, :8]
    return torch.from_numpy(ids).long().to(device)


def _identity_loss(seen: Tensor, names: Tensor) -> Tensor:
    """Return a contrastive loss: scenes of one look attract each other within the batch."""
    count = names.shape[1]
    group = torch.arange(len(names), device=names.device)[:, None].expand(-1, count)
    key = (group * 10_000_000 + names).repeat_interleave(2, 1).reshape(-1)
    itself = torch.eye(len(key), dtype=torch.bool, device=key.device)
    positive = (key[:, None] == key[None]) & ~itself
    logits = (seen @ seen.T / IDENTITY_TEMPERATURE).masked_fill(itself, -1e4).log_softmax(1)
    return -((logits * positive).sum(1) / positive.sum(1)).mean()


def _width(share: float) -> float:
    """Widen from centred objects: a transformer that must find objects learns names late."""
    return min(1.0, max(0.0, (share - 0.15) / 0.4))


def _wide(share: float) -> float:
    """Return the full width: an earlier evaluator already finds objects."""
    return 1.0


def _rate(peak: float, share: float) -> float:
    return (
        peak * min(1.0, share / 0.03 + 0.02) * (0.02 + 0.98 * (1 + math.cos(math.pi * share)) / 2)
    )
