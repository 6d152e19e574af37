"""Sizes and schedules of all stages: the recipes for CPU, GPU and a one-minute dry run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

DEFAULT_CACHE = Path.home() / ".cache" / "perfusion-maker"


@dataclass(frozen=True)
class VaeRecipe:
    """The autoencoder: first `samples` of it all, then `decoder_samples` of its decoder alone."""

    channels: tuple[int, ...] = (16, 32, 64, 128)
    latent_channels: int = 8
    norm_groups: int = 4
    batch: int = 16
    samples: int = 56_000
    # Share of the training on crops of 64 pixels, which are four times cheaper than whole scenes.
    crops: float = 50 / 56
    decoder_samples: int = 48_000
    rate: float = 2e-3
    kl_weight: float = 1e-5


@dataclass(frozen=True)
class UnetRecipe:
    """The denoiser and the text encoder that is trained with it."""

    channels: tuple[int, ...] = (96, 160, 256)
    latent_channels: int = 8
    layers: int = 1
    heads: int = 4
    text_width: int = 256
    text_layers: int = 3
    batch: int = 16  # per process
    # The learning rate is constant until `decay_from`, so a training can stop and resume any time.
    samples: int = 872_000
    decay_from: int = 724_000
    warm_up_steps: int = 400
    rate: float = 7e-4
    final_rate: float = 2e-5
    ema: float = 0.9995
    caption_dropout: float = 0.1
    # Scenes are simple for the first `simple_until` samples and then widen until `wide_from`.
    simple_until: int = 48_000
    wide_from: int = 240_000
    widest: float = 0.8  # 1 is every size, place and extra; fewer samples need less
    noise_skew: float = 0.75  # t = 1000 * u ** skew: below 1 favours high noise
    padding_forgotten: float = 0.5  # share of samples with the padding of the empty prompt
    object_weight: float = 4.0  # weight of an error where an object is; elsewhere it is 1
    alignment: float = 0.5  # weight of the teacher's features; falls with the learning rate
    projection_steps: int = 300  # first steps, which train the alignment's projection alone


@dataclass(frozen=True)
class TowerRecipe:
    """The evaluator with its two towers, or the classifier."""

    samples: int = 160_000
    batch: int = 64
    rate: float = 8e-4


@dataclass(frozen=True)
class Recipe:
    """One run of the maker."""

    name: str = "cpu"
    device: str = "cpu"
    cache: Path = DEFAULT_CACHE
    seed: int = 20261
    workers: int = 0  # processes that draw scenes; 0 draws in this process
    processes: int = 1  # processes that train the denoiser together, with one thread each
    shard_scenes: int = 4096
    shard_passes: int = 7
    checkpoint_seconds: float = 240.0
    diagnosis_every_samples: int = 49_152
    warm_start: Path | None = None
    warm_evaluator: Path | None = None  # folder of an earlier evaluator to start from
    returned: int = 2560  # scenes redrawn by the base model, to train evaluator and classifier on
    vae: VaeRecipe = field(default_factory=VaeRecipe)
    unet: UnetRecipe = field(default_factory=UnetRecipe)
    evaluator: TowerRecipe = field(default_factory=TowerRecipe)
    classifier: TowerRecipe = field(
        default_factory=lambda: TowerRecipe(samples=80_000, batch=32, rate=1.2e-3)
    )


def rescheduled(
    recipe: Recipe, *, processes: int | None, samples: int | None, decay_from: int | None
) -> Recipe:
    """Return the recipe with another schedule of the denoiser; None keeps the recipe's value.

    Raises:
        ValueError: the decay would begin after the end, or there would be no process.
    """
    unet = recipe.unet
    samples = unet.samples if samples is None else samples
    decay_from = unet.decay_from if decay_from is None else decay_from
    processes = recipe.processes if processes is None else processes
    if decay_from > samples:
        raise ValueError(f"The decay begins at {decay_from}, after the end at {samples} samples.")
    if processes < 1:
        raise ValueError("At least one process must train.")
    changed = replace(unet, samples=samples, decay_from=decay_from)
    return replace(recipe, unet=changed, processes=processes)


def recipe_of(name: str, cache: Path, device: str, warm_start: Path | None) -> Recipe:
    """Return the recipe of that name."""
    if name == "cpu":
        recipe = Recipe(cache=cache, device=device, warm_start=warm_start, processes=2)
        if warm_start is None:
            return recipe
        # A model that has already learnt needs no simple scenes and only a short schedule.
        return replace(
            recipe,
            vae=replace(recipe.vae, samples=16_384, rate=1e-3),
            unet=replace(
                recipe.unet, samples=240_000, decay_from=160_000, simple_until=0, wide_from=1
            ),
        )
    if name == "gpu":
        return Recipe(
            name="gpu",
            device=device,
            cache=cache,
            warm_start=warm_start,
            workers=14,
            shard_scenes=65_536,
            shard_passes=8,
            checkpoint_seconds=120.0,
            diagnosis_every_samples=1_048_576,
            vae=VaeRecipe(
                channels=(32, 64, 96, 128),
                norm_groups=8,
                batch=128,
                samples=1_500_000,
                decoder_samples=0,
            ),
            unet=UnetRecipe(
                batch=512,
                samples=6_000_000,
                decay_from=4_500_000,
                simple_until=180_000,
                wide_from=900_000,
                widest=1.0,
            ),
            returned=25_600,
            evaluator=TowerRecipe(samples=1_500_000, batch=512),
            classifier=TowerRecipe(samples=400_000, batch=256),
        )
    return Recipe(
        name="dry-run",
        device=device,
        cache=cache,
        shard_scenes=32,
        shard_passes=1,
        checkpoint_seconds=2.0,
        diagnosis_every_samples=64,
        vae=VaeRecipe(channels=(8, 8, 16, 16), batch=8, samples=32, decoder_samples=16),
        unet=UnetRecipe(
            channels=(16, 16, 32),
            text_width=32,
            text_layers=1,
            samples=64,
            decay_from=48,
            simple_until=16,
            wide_from=48,
            projection_steps=2,
        ),
        returned=64,
        evaluator=TowerRecipe(samples=64, batch=16),
        classifier=TowerRecipe(samples=64, batch=16),
    )
