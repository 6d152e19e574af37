"""Bounds of options that depend on the base model or on other options."""

from perfusion_core.config import (
    LARGEST_SIDE,
    SIDE_STEP,
    SMALLEST_SIDE,
    GenerateConfig,
    TrainConfig,
)

MAX_SIDES = 2
"""The limit of a size, in the base model's own sides: an image or a training has at most as many
pixels as a square with this many times the base model's side. Larger images repeat their subject,
and a step of a larger image would delay all other requests."""

MAX_STEP_IMAGES = 64
"""The limit of a training step's pixels, in images of the base model's own size. It equals the
largest train_batch_size."""

MAX_DISTILLED_STEPS = 50
"""The most steps of the schedulers `lcm` and `tcd`: their models were distilled from 50 steps."""


def max_pixels(resolution: int) -> dict[str, int]:
    """Return the most pixels of an image and a training step, by the base model's side length."""
    return {
        "generate": (MAX_SIDES * resolution) ** 2,
        "train": MAX_STEP_IMAGES * resolution**2,
    }


def max_sides(resolution: int) -> dict[str, dict[str, int]]:
    """Return the largest value of each size option when the other size options are smallest."""
    most = max_pixels(resolution)["generate"]
    side = min(LARGEST_SIDE, most // SMALLEST_SIDE // SIDE_STEP * SIDE_STEP)
    square = min(LARGEST_SIDE, MAX_SIDES * resolution // SIDE_STEP * SIDE_STEP)
    return {"generate": {"width": side, "height": side}, "train": {"resolution": square}}


def too_many_steps(config: TrainConfig | GenerateConfig) -> dict[str, str]:
    """Return `num_inference_steps` with a sentence if the scheduler cannot take so many steps."""
    if (
        isinstance(config, GenerateConfig)
        and config.scheduler in ("lcm", "tcd")
        and config.num_inference_steps > MAX_DISTILLED_STEPS
    ):
        return {
            "num_inference_steps": f"This may be at most {MAX_DISTILLED_STEPS} with the scheduler "
            f"{config.scheduler}."
        }
    return {}


def too_large(config: TrainConfig | GenerateConfig, *, resolution: int) -> dict[str, str]:
    """Return the options too large for a base model's side length, each with a sentence."""
    most = max_pixels(resolution)
    if isinstance(config, GenerateConfig):
        width, height = config.width or resolution, config.height or resolution
        if width * height <= most["generate"]:
            return {}
        sentence = (
            f"{width} x {height} is too large for this base model: width times height may be at "
            f"most {most['generate']}."
        )
        own = {"width": config.width, "height": config.height}
        return {name: sentence for name, side in own.items() if side is not None}
    side = config.resolution or resolution
    if side > (largest := max_sides(resolution)["train"]["resolution"]):
        return {"resolution": f"This may be at most {largest} for this base model."}
    if config.train_batch_size * side**2 > most["train"]:
        return {
            "train_batch_size": f"With pictures of {side} x {side} this may be at most "
            f"{most['train'] // side**2} for this base model."
        }
    return {}
