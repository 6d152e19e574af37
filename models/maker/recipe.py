"""How much of everything: the CPU, the GPU and the one-minute recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

DEFAULT_CACHE = Path.home() / ".cache" / "perfusion-maker"


@dataclass(frozen=True)
class VaeRecipe:
    """The autoencoder; `samples` is the whole schedule, decoder_samples what follows alone."""

    channels: tuple[int, ...] = (16, 32, 64, 128)
    latent_channels: int = 8
    norm_groups: int = 4
    batch: int = 16
    samples: int = 56_000
    # So much of the training sees crops of 64 pixels: four times cheaper than whole scenes.
    crops: float = 50 / 56
    decoder_samples: int = 48_000
    rate: float = 2e-3
    kl_weight: float = 1e-5


@dataclass(frozen=True)
class UnetRecipe:
    """The denoiser and the text encoder that is trained along."""

    channels: tuple[int, ...] = (96, 160, 256)
    latent_channels: int = 8
    layers: int = 1
    heads: int = 4
    text_width: int = 256
    text_layers: int = 3
    batch: int = 16  # of each process
    # The rate is constant until `decay_from`, so that a training may stop and go on at any time.
    samples: int = 872_000
    decay_from: int = 724_000
    warm_up_steps: int = 400
    rate: float = 7e-4
    final_rate: float = 2e-5
    ema: float = 0.9995
    caption_dropout: float = 0.1
    # Placement is simple for the first samples, then widens until `wide_from`.
    simple_until: int = 48_000
    wide_from: int = 240_000
    widest: float = 0.8  # 1: every size, place and extra; less where samples are few
    noise_skew: float = 0.75  # t = 1000 * u ** skew: below 1 favours high noise
    padding_forgotten: float = 0.5  # share of the samples whose padding knows nothing of the prompt
    object_weight: float = 4.0  # of an error where an object is, against 1 elsewhere
    alignment: float = 0.5  # of the middle with the teacher's features; falls with the rate
    projection_steps: int = 300  # the alignment's projection learns alone at first


@dataclass(frozen=True)
class TowerRecipe:
    """The evaluator's two towers, and the classifier."""

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
    workers: int = 0  # processes that draw scenes; 0 draws in line
    processes: int = 1  # that train the denoiser together, of one thread each
    shard_scenes: int = 4096
    shard_passes: int = 7
    checkpoint_seconds: float = 240.0
    diagnosis_every_samples: int = 49_152
    warm_start: Path | None = None
    warm_evaluator: Path | None = None  # an earlier evaluator's folder to go on from
    returned: int = 2560  # scenes that the base model gives back, for the judges to learn from
    vae: VaeRecipe = field(default_factory=VaeRecipe)
    unet: UnetRecipe = field(default_factory=UnetRecipe)
    evaluator: TowerRecipe = field(default_factory=TowerRecipe)
    classifier: TowerRecipe = field(
        default_factory=lambda: TowerRecipe(samples=80_000, batch=32, rate=1.2e-3)
    )


def rescheduled(
    recipe: Recipe, *, processes: int | None, samples: int | None, decay_from: int | None
) -> Recipe:
    """The recipe with another schedule of the denoiser; None leaves what it says.

    Raises:
        ValueError: the rate would begin to fall after the end, or no process would train.
    """
    unet = recipe.unet
    samples = unet.samples if samples is None else samples
    decay_from = unet.decay_from if decay_from is None else decay_from
    processes = recipe.processes if processes is None else processes
    if decay_from > samples:
        raise ValueError(f"The decay begins at {decay_from}, after the end at {samples} samples.")
    if processes < 1:
        raise ValueError("At least one process has to train.")
    changed = replace(unet, samples=samples, decay_from=decay_from)
    return replace(recipe, unet=changed, processes=processes)


def recipe_of(name: str, cache: Path, device: str, warm_start: Path | None) -> Recipe:
    """The recipe of that name."""
    if name == "cpu":
        recipe = Recipe(cache=cache, device=device, warm_start=warm_start, processes=2)
        if warm_start is None:
            return recipe
        # What is learnt already needs no simple scenes, and a short schedule.
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
