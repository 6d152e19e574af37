"""Sampling as a set of trajectories. A trajectory is one image that is being denoised.

One step can advance any trajectories of one latent shape. Keys and Values are inputs of the U-Net,
so every row of the batch can have its own prompt, concepts, strengths, guidance, scheduler and
timestep.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from perfusion_core.attention import Observer, observed
from perfusion_core.conditioning import ConceptUse, added_conditions, condition
from perfusion_core.config import MAX_SEED, GenerateConfig, SchedulerName
from perfusion_core.edit_strategy import STRATEGIES, EditStrategy
from perfusion_core.imaging.pixels import to_image
from perfusion_core.sampling.attention_maps import AttentionMaps, observer_of, the_most_telling
from perfusion_core.text.prompt import parse
from perfusion_core.text.words import words_of

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """A prompt, the concepts that it names (with their gates), and the options of sampling.

    `attention_maps` records each word's share of the attention; recording does not change the
    images.
    """

    prompt: str
    concepts: Mapping[str, ConceptUse] = field(default_factory=dict)
    config: GenerateConfig = field(default_factory=GenerateConfig)
    attention_maps: bool = False


@dataclass(kw_only=True, eq=False)
class Trajectory:
    """One image being denoised. `latents` is (1, c, h, w) in float32."""

    seed: int
    latents: Tensor
    scheduler: Any
    guidance_scale: float
    packed: Tensor  # (rows, N, 2 Σ d_l): [negative, prompt], or the prompt alone
    added: dict[str, Tensor]  # SDXL's extra conditions, one row each; empty otherwise
    maps: AttentionMaps | None = None  # if the request asked for maps
    step_index: int = 0

    @property
    def total_steps(self) -> int:
        """The number of denoising steps of the image."""
        return len(self.scheduler.timesteps)

    @property
    def steps_left(self) -> int:
        """The number of denoising steps that are left."""
        return self.total_steps - self.step_index

    @property
    def finished(self) -> bool:
        """Return whether all denoising steps are done."""
        return self.steps_left == 0

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of the latents, which must be equal for trajectories to share a step."""
        return tuple(self.latents.shape[1:])

    @property
    def rows(self) -> int:
        """The number of rows of this image in a U-Net batch: 2 with guidance, else 1."""
        return len(self.packed)


class Batch:
    """Trajectories of one latent shape that step together, with their Keys and Values joined.

    Keys and Values are copied once, when the batch is made, and not in every step. So another set
    of trajectories needs a new batch.

    A row's result depends on the number of rows in the row's batch, because kernels are chosen by
    shape, but not on the content of the other rows. With `rows`, a smaller batch is padded to
    `rows` rows, so that all batches give the same bits. The padding is copies of the batch's last
    row, and the results of these copies are discarded.
    """

    def __init__(self, trajectories: Sequence[Trajectory], *, rows: int = 0) -> None:
        self.trajectories = tuple(trajectories)
        self._padding = max(0, rows - sum(trajectory.rows for trajectory in self.trajectories))
        self.packed = self.padded([trajectory.packed for trajectory in self.trajectories])
        self.added = {
            name: self.padded([trajectory.added[name] for trajectory in self.trajectories])
            for name in self.trajectories[0].added
        }

    def padded(self, parts: Sequence[Tensor]) -> Tensor:
        """Join the rows of all parts, and append copies of the last row up to the batch's size."""
        return torch.cat([*parts, *[parts[-1][-1:]] * self._padding])


def start(
    base: "BaseModel", request: ImageRequest, *, strategy: EditStrategy | None = None
) -> list[Trajectory]:
    """Start one trajectory per image; image k starts from the noise of seed + k.

    The noise is drawn on the CPU, so that a seed means the same noise on every device. The prompt's
    Keys and Values are computed once, in this call. They are computed with `strategy`, or else with
    the strategy that the config's `gates` selects.
    """
    config = request.config
    seed = secrets.randbelow(MAX_SEED) if config.seed is None else config.seed
    width = config.width or base.default_resolution
    height = config.height or base.default_resolution
    prompts = [request.prompt]
    if config.guidance_scale > 1:
        prompts.insert(0, config.negative_prompt)
    conditionings = [
        condition(
            base,
            prompt,
            concepts=request.concepts,
            locking=config.locking,
            strategy=strategy or STRATEGIES[config.gates],
        )
        for prompt in prompts
    ]
    packed = torch.stack([conditioning.packed for conditioning in conditionings])
    pooled = [each.pooled for each in conditionings if each.pooled is not None]
    added = added_conditions(
        torch.stack(pooled) if pooled else None, width=width, height=height, dtype=base.dtype
    )
    shape = (
        1, int(base.unet.config.in_channels), height // base.vae_factor, width // base.vae_factor
    )  # fmt: skip
    words = (
        the_most_telling(words_of(base.tokenizers[0], parse(request.prompt)))
        if request.attention_maps
        else None
    )
    trajectories = []
    for k in range(config.num_images):
        scheduler = make_scheduler(base, config.scheduler)
        scheduler.set_timesteps(config.num_inference_steps)
        own_seed = (seed + k) % (MAX_SEED + 1)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(own_seed))
        trajectories.append(
            Trajectory(
                seed=own_seed,
                latents=(noise * scheduler.init_noise_sigma).to(base.device),
                scheduler=scheduler,
                guidance_scale=config.guidance_scale,
                packed=packed,
                added=added,
                maps=None
                if words is None
                else AttentionMaps(
                    words, token_count=packed.shape[1], grid=shape[2:], device=base.device
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
        t = trajectory.scheduler.timesteps[trajectory.step_index]
        scaled = trajectory.scheduler.scale_model_input(trajectory.latents, t)
        rows += [scaled] * trajectory.rows
        times += [t[None]] * trajectory.rows
    with observed(_observer(trajectories)):
        prediction = base.unet(
            batch.padded(rows).to(base.dtype),
            batch.padded(times).to(base.device),
            encoder_hidden_states=batch.packed,
            added_cond_kwargs=batch.added or None,
        ).sample.float()  # (rows, c, h, w)
    begin = 0
    for trajectory in trajectories:
        own, begin = prediction[begin : begin + trajectory.rows], begin + trajectory.rows
        guided = (
            own
            if trajectory.rows == 1
            else own[:1] + trajectory.guidance_scale * (own[1:] - own[:1])
        )
        t = trajectory.scheduler.timesteps[trajectory.step_index]
        trajectory.latents = trajectory.scheduler.step(guided, t, trajectory.latents).prev_sample
        trajectory.step_index += 1
        if trajectory.maps is not None:
            trajectory.maps.keep_step()


def decode(base: "BaseModel", trajectory: Trajectory) -> Image.Image:
    """Return the image of a trajectory."""
    return decode_together(base, [trajectory])[0]


@torch.no_grad()
def decode_together(base: "BaseModel", trajectories: Sequence[Trajectory]) -> list[Image.Image]:
    """Return the images of trajectories of one latent shape, decoded in one batch."""
    config = base.vae.config
    latents = torch.cat([trajectory.latents for trajectory in trajectories])  # (B, c, h, w)
    latents = latents / config.scaling_factor + (config.shift_factor or 0.0)
    return [to_image(pixels) for pixels in base.vae.decode(latents).sample]


def generate(
    base: "BaseModel",
    prompt: str,
    *,
    concepts: Mapping[str, ConceptUse] | None = None,
    config: GenerateConfig | None = None,
) -> list[Image.Image]:
    """Generate `config.num_images` images; default config: the base model's own.

    `concepts` maps the names in the prompt's placeholders to concepts and their gates.
    """
    request = ImageRequest(
        prompt=prompt,
        concepts=concepts or {},
        config=config or base.defaults.generate_config(),
    )
    trajectories = start(base, request)
    batch = Batch(trajectories)
    while not trajectories[0].finished:  # all have equally many steps
        step(base, batch)
    return [decode(base, trajectory) for trajectory in trajectories]


def make_scheduler(base: "BaseModel", name: SchedulerName) -> Any:
    """Return a new diffusers scheduler with the base model's noise schedule and prediction type."""
    import diffusers

    config = base.scheduler_config
    match name:
        case "ddim":
            return diffusers.DDIMScheduler.from_config(config)
        case "dpmpp_2m":
            return diffusers.DPMSolverMultistepScheduler.from_config(
                config, algorithm_type="dpmsolver++", solver_order=2
            )
        case "euler":
            return diffusers.EulerDiscreteScheduler.from_config(config)
        case "unipc":
            return diffusers.UniPCMultistepScheduler.from_config(config)


def _observer(trajectories: Sequence[Trajectory]) -> Observer | None:
    """Return an observer of the prompt's row (the last one) of each trajectory with maps."""
    recorded: dict[int, AttentionMaps] = {}
    end = 0
    for trajectory in trajectories:
        end += trajectory.rows
        if trajectory.maps is not None:
            trajectory.maps.begin_step()
            recorded[end - 1] = trajectory.maps
    return observer_of(recorded) if recorded else None
