"""diffusers' own pipeline for the baselines: loaded, given words, drawn with, and put together."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.paper.methods.method import images_at_once, noise_of
from benchmarks.paper.subjects import Photo, Subject
from perfusion_core import BaseModel
from perfusion_core.imaging.pixels import to_pixels
from perfusion_core.sampling.schedulers import make_scheduler

TOKENS = ("<x>", "<y>", "<z>")
"""The words of the subjects that are learned, in their order."""

EMBEDDING = "embedding"
"""The key of the first word's embedding in a file that a baseline keeps; others are weights."""

_CLASS_IMAGES = 24  # generated images of the superclass that preserve it


def load_pipeline(base: BaseModel, source: Path, *, in_float32: bool = False) -> Any:
    """Load the folder `source` of the base model once more, frozen.

    Its U-Net computes as the product does, in bfloat16 where that does, unless `in_float32`.
    """
    pipeline = StableDiffusionPipeline.from_pretrained(
        source, dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    ).to(base.device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = make_scheduler(base, "ddim")
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        module.requires_grad_(False).eval()
    product_in_bfloat16 = base.device.type == "cpu" and base.backend.precision == "bfloat16"
    if product_in_bfloat16 and not in_float32:
        pipeline.unet.forward = _in_bfloat16(pipeline.unet.forward)
    return pipeline


def _in_bfloat16(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Compute a U-Net's products in bfloat16; guidance gets float32, as in the product."""

    @wraps(forward)
    def cast(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            out = forward(*args, **kwargs)
        if isinstance(out, tuple):
            return (out[0].float(), *out[1:])
        out.sample = out.sample.float()
        return out

    return cast


def add_words(pipeline: Any, starts: Sequence[str | None]) -> Tensor:
    """Add a token for each start; return the whole table, whose last rows are theirs.

    A token starts like its superclass's, or without one as random as a rare word's.
    """
    pipeline.tokenizer.add_tokens(list(TOKENS[: len(starts)]))
    table: Tensor = pipeline.text_encoder.resize_token_embeddings(
        len(pipeline.tokenizer), mean_resizing=False
    ).weight
    old = len(table) - len(starts)
    with torch.no_grad():
        for number, superclass in enumerate(starts):
            if superclass is None:
                table[old + number] = table[:old].std() * torch.randn(table.shape[1])
            else:
                ids = pipeline.tokenizer(superclass, add_special_tokens=False).input_ids
                table[old + number] = table[ids[-1]]
    table.requires_grad_(False)
    return table


@torch.no_grad()
def draw(
    base: BaseModel, pipeline: Any, texts: Sequence[str], seeds: Sequence[int]
) -> list[Image.Image]:
    """Draw one image per text from its seed's noise, by the pipeline itself."""
    defaults = base.defaults.generate_config()
    side = pipeline.unet.config.sample_size
    shape = (pipeline.unet.config.in_channels, side, side)
    images: list[Image.Image] = []
    at_once = images_at_once(base)
    for begin in range(0, len(texts), at_once):
        batch = slice(begin, begin + at_once)
        pipeline.scheduler = make_scheduler(base, defaults.scheduler)
        images += pipeline(
            list(texts[batch]),
            latents=noise_of(seeds[batch], shape).to(base.device),
            num_inference_steps=defaults.num_inference_steps,
            guidance_scale=defaults.guidance_scale,
        ).images
    return images


def add_lora(pipeline: Any, *, rank: int, projections: Sequence[str], name: str) -> list[Tensor]:
    """Add one of peft's adapters to the U-Net; return the weights that it learns."""
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(projections))
    pipeline.unet.add_adapter(config, adapter_name=name)
    return [weight for weight in pipeline.unet.parameters() if weight.requires_grad]


def with_loras(
    base: BaseModel, source: Path, files: Sequence[Path], *, rank: int, projections: Sequence[str]
) -> Any:
    """Return a pipeline with the kept LoRAs of several subjects, all at scale 1."""
    pipeline = load_pipeline(base, source)
    table = add_words(pipeline, [None] * len(files))
    names = [f"subject{number}" for number in range(len(files))]
    for name, file in zip(names, files, strict=True):
        kept = load_file(file)
        _set_word(table, names.index(name) - len(files), kept)
        add_lora(pipeline, rank=rank, projections=projections, name=name)
        _set_weights(
            pipeline.unet, {key.replace(".default.", f".{name}."): w for key, w in kept.items()}
        )
    pipeline.unet.set_adapters(names, [1.0] * len(names))
    return pipeline


def with_weights(base: BaseModel, source: Path, file: Path) -> Any:
    """Return a pipeline with the word and the U-Net's weights that a baseline kept as `file`.

    It is in float32, in which attention maps of every method are read.
    """
    pipeline, kept = load_pipeline(base, source, in_float32=True), load_file(file)
    _set_word(add_words(pipeline, [None]), -1, kept)
    _set_weights(pipeline.unet, kept)
    return pipeline


@torch.no_grad()
def _set_word(table: Tensor, row: int, kept: Mapping[str, Tensor]) -> None:
    table[row] = kept[EMBEDDING].to(table)


def _set_weights(unet: Any, kept: Mapping[str, Tensor]) -> None:
    weights = {name: weight for name, weight in kept.items() if name != EMBEDDING}
    unknown = unet.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"The U-Net has no weight {unknown[0]}: another model's file was kept.")


@torch.no_grad()
def latents_of(pipeline: Any, photos: Sequence[Photo]) -> Tensor:
    """Return the latents of the photos and of their mirror images, (2 n, c, h, w)."""
    pixels = torch.stack([to_pixels(photo.picture, side=photo.picture.width) for photo in photos])
    both = torch.cat([pixels, pixels.flip(-1)]).to(pipeline.device)
    latents: Tensor = pipeline.vae.encode(both).latent_dist.mode()
    return latents * float(pipeline.vae.config.scaling_factor)


@torch.no_grad()
def class_latents(base: BaseModel, pipeline: Any, subject: Subject) -> Tensor:
    """Generate examples of the superclass, by which a prior is preserved."""
    defaults = base.defaults.generate_config()
    latents = []
    for seeds in torch.arange(9000, 9000 + _CLASS_IMAGES).split(images_at_once(base)):
        latents += pipeline(
            [f"a photo of {subject.phrase}"] * len(seeds), output_type="latent",
            num_inference_steps=defaults.num_inference_steps,
            guidance_scale=defaults.guidance_scale,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds.tolist()],
        ).images  # fmt: skip
    return torch.stack(latents)
