"""Sampling as a set of trajectories. A trajectory is one image that is being denoised.

One step can advance any trajectories of one latent shape. Keys and Values are inputs of the U-Net,
so every row of the batch can have its own prompt, concepts, strengths, guidance, scheduler and
timestep.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from perfusion_core.attention import observed
from perfusion_core.backends.backend import UNetInput
from perfusion_core.conditioning import (
    ConceptUse,
    Conditioning,
    added_conditions,
    condition,
    without_prompt,
)
from perfusion_core.config import MAX_SEED, GenerateConfig
from perfusion_core.edit_strategy import STRATEGIES, EditStrategy
from perfusion_core.editing.edit import Edit
from perfusion_core.errors import ImageDiverged
from perfusion_core.sampling import schedulers
from perfusion_core.sampling.attention_maps import AttentionMaps, the_most_telling
from perfusion_core.sampling.autoencoder import decode_latents
from perfusion_core.sampling.edits import KnownLatents, edited_size, encode_edit, finish
from perfusion_core.sampling.subject_matte import SubjectMatte
from perfusion_core.sampling.trajectories import Batch, Trajectory
from perfusion_core.text.prompt import parse
from perfusion_core.text.words import words_of

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """A prompt, the concepts that it names (with their gates), and the options of sampling.

    `attention_maps` records each word's share of the attention, which only torch can do: the images
    differ from those of another backend by its rounding. With an `edit`, the images are edits of
    its picture.
    """

    prompt: str
    concepts: Mapping[str, ConceptUse] = field(default_factory=dict)
    config: GenerateConfig = field(default_factory=GenerateConfig)
    attention_maps: bool = False
    edit: Edit | None = None


def start(
    base: "BaseModel", request: ImageRequest, *, strategy: EditStrategy | None = None
) -> list[Trajectory]:
    """Start one trajectory per image; image k starts from the noise of seed + k.

    The noise, also that of a scheduler's steps, is drawn on the CPU by the image's own generator,
    so that a seed means the same noise on every device and in any company. The prompt's
    Keys and Values are computed once, in this call. They are computed with `strategy`, or else with
    the strategy that the config's `gates` selects.
    """
    config = request.config
    seed = secrets.randbelow(MAX_SEED) if config.seed is None else config.seed
    width, height = edited_size(base, config, request.edit)
    edit = encode_edit(base, request.edit, width=width, height=height) if request.edit else None

    def conditioned(prompt: str) -> Conditioning:
        return condition(
            base,
            prompt,
            concepts=request.concepts,
            locking=config.locking,
            strategy=strategy or STRATEGIES[config.gates],
        )

    conditionings = [conditioned(request.prompt)]
    guidance_input = schedulers.guidance_input(base, config.guidance_scale)
    if config.guidance_scale > 1 and guidance_input is None:
        # SDXL was trained with zeros in place of missing prompts.
        without = base.zeros_for_no_prompt and not config.negative_prompt
        conditionings.insert(
            0, without_prompt(conditionings[0]) if without else conditioned(config.negative_prompt)
        )
    packed = torch.stack([conditioning.packed for conditioning in conditionings])
    pooled = [each.pooled for each in conditionings if each.pooled is not None]
    added = added_conditions(
        torch.stack(pooled) if pooled else None, width=width, height=height, dtype=base.dtype
    )
    shape = (
        1, int(base.unet.config.in_channels), height // base.vae_factor, width // base.vae_factor
    )  # fmt: skip
    keeps_background = request.edit is not None and request.edit.config.keep_background
    needs_words = request.attention_maps or keeps_background
    words = words_of(base.tokenizers[0], parse(request.prompt)) if needs_words else ()
    trajectories = []
    for k in range(config.num_images):
        scheduler = schedulers.begin(base, config)
        own_seed = (seed + k) % (MAX_SEED + 1)
        generator = torch.Generator().manual_seed(own_seed)
        noise = torch.randn(shape, generator=generator)
        latents = (noise * scheduler.init_noise_sigma).to(base.device)
        known, subject, skipped = None, None, 0
        if edit is not None:
            known = KnownLatents(edit=edit, noise=noise.to(base.device))
            strength = edit.denoising_strength
            skipped = schedulers.skip_steps(scheduler, denoising_strength=strength)
            latents = known.start(latents, scheduler, scheduler.timesteps[skipped:])
            if keeps_background and edit.masked is not None:
                subject = SubjectMatte(
                    words,
                    token_count=packed.shape[1],
                    anew=edit.masked.anew,
                    unet_config=base.unet.config,
                )
        trajectories.append(
            Trajectory(
                seed=own_seed,
                latents=latents,
                known=known,
                subject=subject,
                skipped_steps=skipped,
                scheduler=scheduler,
                timesteps=scheduler.timesteps.to(base.device, torch.float32),
                guidance_scale=config.guidance_scale,
                guidance_rescale=config.guidance_rescale,
                guidance_input=guidance_input,
                step_options=schedulers.step_options(base, config.scheduler, generator=generator),
                packed=packed,
                added=added,
                maps=None
                if not request.attention_maps
                else AttentionMaps(
                    the_most_telling(words),
                    token_count=packed.shape[1],
                    grid=shape[2:],
                    device=base.device,
                ),
            )
        )
    return trajectories


@torch.no_grad()
def step(base: "BaseModel", batch: Batch | Sequence[Trajectory]) -> None:
    """Advance each trajectory by one step, all in one U-Net batch.

    The trajectories must be unfinished and have one latent shape. Passing a Batch saves time if the
    same trajectories step several times.
    """
    if not isinstance(batch, Batch):
        batch = Batch(batch)
    trajectories = batch.trajectories
    rows: list[Tensor] = []
    times: list[Tensor] = []
    for trajectory in trajectories:
        t = trajectory.timesteps_left[0]
        scaled = trajectory.scheduler.scale_model_input(trajectory.latents, t)
        rows += [scaled] * trajectory.rows
        step_now = trajectory.skipped_steps + trajectory.step_index
        times += [trajectory.timesteps[step_now : step_now + 1]] * trajectory.rows
    given = UNetInput(
        latents=batch.padded(rows),
        timesteps=batch.padded(times),
        packed=batch.packed,
        guidance=batch.guidance_input,
        added=batch.added,
    )
    if (observer := batch.observer()) is None:
        prediction = base.backend(given)  # (rows, c, h, w)
    else:
        with observed(observer):
            prediction = base.eager(given)
    begin = 0
    for trajectory in trajectories:
        own, begin = prediction[begin : begin + trajectory.rows], begin + trajectory.rows
        guided = schedulers.guided(
            own, scale=trajectory.guidance_scale, rescale=trajectory.guidance_rescale
        )
        t = trajectory.timesteps_left[0]
        stepped = trajectory.scheduler.step(
            guided, t, trajectory.latents, **trajectory.step_options
        )
        trajectory.latents = stepped.prev_sample
        trajectory.predicted = schedulers.predicted_original(trajectory.scheduler, stepped)
        trajectory.step_index += 1
        if trajectory.subject is not None:
            trajectory.subject.keep_step(left=trajectory.steps_left, total=trajectory.total_steps)
        if trajectory.known is not None:
            trajectory.latents = trajectory.known.restore(
                trajectory.latents,
                trajectory.scheduler,
                trajectory.timesteps_left,
                total=trajectory.total_steps,
                shown=None if trajectory.subject is None else trajectory.subject.found,
            )
        if trajectory.maps is not None:
            trajectory.maps.keep_step()


def decode(base: "BaseModel", trajectory: Trajectory) -> Image.Image:
    """Return the image of a trajectory; raises ImageDiverged if it is not finite."""
    return decode_together(base, [trajectory])[0]


@torch.no_grad()
def decode_together(base: "BaseModel", trajectories: Sequence[Trajectory]) -> list[Image.Image]:
    """Return the images of trajectories of one latent shape, as many at once as memory allows.

    The image of a masked edit is the whole picture, with what was painted blended in.
    Raises ImageDiverged if an image has values that are not finite.
    """
    latents = torch.cat([trajectory.latents for trajectory in trajectories])  # (B, c, h, w)
    decoded = decode_latents(base, latents)  # (B, 3, H, W)
    for trajectory, pixels in zip(trajectories, decoded, strict=True):
        if not bool(pixels.isfinite().all()):
            raise ImageDiverged(
                f"The image of seed {trajectory.seed} diverged: a concept or the guidance is too "
                "strong. Lower the strengths or guidance_scale."
            )
    return [
        finish(pixels, trajectory.known, subject=trajectory.subject)
        for trajectory, pixels in zip(trajectories, decoded, strict=True)
    ]


def generate(
    base: "BaseModel",
    prompt: str,
    *,
    concepts: Mapping[str, ConceptUse] | None = None,
    config: GenerateConfig | None = None,
    edit: Edit | None = None,
) -> list[Image.Image]:
    """Generate `config.num_images` images; default config: the base model's own.

    `concepts` maps the names in the prompt's placeholders to concepts and their gates. With an
    `edit`, the images are edits of its picture.
    """
    request = ImageRequest(
        prompt=prompt,
        concepts=concepts or {},
        config=config or base.defaults.generate_config(),
        edit=edit,
    )
    trajectories = start(base, request)
    batch = Batch(trajectories)
    while not trajectories[0].finished:  # all have equally many steps
        step(base, batch)
    return [decode(base, trajectory) for trajectory in trajectories]
