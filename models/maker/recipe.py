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
    samples: int = 64_000
    decoder_samples: int = 48_000
    rate: float = 2e-3
    kl_weight: float = 4e-6


@dataclass(frozen=True)
class UnetRecipe:
    """The denoiser and the text encoder that is trained along."""

    channels: tuple[int, ...] = (64, 128, 192)
    latent_channels: int = 8
    layers: int = 1
    heads: int = 4
    text_width: int = 128
    text_layers: int = 2
    batch: int = 32
    samples: int = 600_000
    rate: float = 1e-3
    final_rate: float = 1e-4
    ema: float = 0.999
    caption_dropout: float = 0.1
    # Placement is simple for the first share of the samples, then widens until the second.
    simple_until: float = 0.15
    wide_from: float = 0.6
    widest: float = 0.5  # 1: every size, place and extra; less where samples are few
    noise_skew: float = 0.75  # t = 1000 * u ** skew: below 1 favours high noise


@dataclass(frozen=True)
class TowerRecipe:
    """The evaluator's two towers, and the classifier."""

    samples: int = 96_000
    batch: int = 32
    rate: float = 1e-3


@dataclass(frozen=True)
class Recipe:
    """One run of the maker."""

    name: str = "cpu"
    device: str = "cpu"
    cache: Path = DEFAULT_CACHE
    seed: int = 20261
    workers: int = 0  # processes that draw scenes; 0 draws in line
    shard_scenes: int = 4096
    shard_passes: int = 4
    checkpoint_seconds: float = 240.0
    look_every: int = 16_384  # samples between diagnoses and grids
    warm_start: Path | None = None
    vae: VaeRecipe = field(default_factory=VaeRecipe)
    unet: UnetRecipe = field(default_factory=UnetRecipe)
    evaluator: TowerRecipe = field(default_factory=TowerRecipe)
    classifier: TowerRecipe = field(default_factory=lambda: TowerRecipe(samples=300_000, rate=4e-3))


def recipe_of(name: str, cache: Path, device: str, warm_start: Path | None) -> Recipe:
    """The recipe of that name."""
    if name == "cpu":
        recipe = Recipe(cache=cache, device=device, warm_start=warm_start)
        if warm_start is None:
            return recipe
        # What is learnt already needs a short, gentle schedule.
        return replace(
            recipe,
            vae=VaeRecipe(samples=32_768, rate=1.6e-3),
            unet=UnetRecipe(
                batch=16,  # few samples: more steps are worth more than quiet gradients
                samples=125_000,
                rate=6e-4,
                final_rate=3e-5,
                simple_until=0.05,
                wide_from=0.5,
            ),
        )
    if name == "gpu":
        return Recipe(
            name="gpu",
            device=device,
            cache=cache,
            workers=14,
            shard_scenes=131_072,
            shard_passes=8,
            checkpoint_seconds=120.0,
            look_every=1_048_576,
            vae=VaeRecipe(
                channels=(32, 64, 96, 128),
                norm_groups=8,
                batch=128,
                samples=1_500_000,
                decoder_samples=0,
            ),
            unet=UnetRecipe(
                channels=(64, 128, 208), batch=512, samples=6_000_000, ema=0.9995, widest=1.0
            ),
            evaluator=TowerRecipe(samples=1_500_000, batch=512),
            classifier=TowerRecipe(samples=800_000, batch=256),
        )
    return Recipe(
        name="dry-run",
        device=device,
        cache=cache,
        shard_scenes=64,
        shard_passes=1,
        checkpoint_seconds=2.0,
        look_every=64,
        vae=VaeRecipe(channels=(8, 8, 16, 16), batch=8, samples=32, decoder_samples=16),
        unet=UnetRecipe(channels=(16, 16, 32), batch=16, samples=128),
        evaluator=TowerRecipe(samples=64, batch=16),
        classifier=TowerRecipe(samples=64, batch=16),
    )
