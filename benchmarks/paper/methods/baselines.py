"""The methods that people use today, on the same photos, templates, noise and sampler.

Their published training loops are scripts for large models, not library code. Here they share one
loop, so that they differ only in what is learned. LoRA is peft's; diffusers' own pipeline draws.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from benchmarks.paper.methods.method import images_at_once, noise_of
from benchmarks.paper.subjects import Photo, Subject
from perfusion_core import BaseModel
from perfusion_core.imaging.pixels import to_pixels
from perfusion_core.sampling.schedulers import make_scheduler
from perfusion_core.text.templates import TEMPLATES
from perfusion_core.training.loss import wanted_prediction

TOKEN = "<x>"
_CLASS_IMAGES = 24  # generated images of the superclass that preserve it


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a baseline is trained; chosen on the tuning subjects."""

    schedule: Mapping[int, tuple[float, ...]]
    rate: float = 0.0
    embedding_rate: float = 0.0
    prior: float = 0.0  # weight of the loss on class images
    batch: int = 8
    rank: int = 4
    projections: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")  # that LoRA adds to


@dataclass(frozen=True)
class Baseline:
    """One method: what is learned, and whether its word stands before the superclass's."""

    base: BaseModel
    source: Path  # the base model's folder, from which diffusers loads it
    name: str
    options: Options
    unfreeze: Callable[[Any, Options], list[Tensor]]
    beside_superclass: bool  # "<x> cat", not "<x>"
    seed_count: int = 4

    @property
    def schedule(self) -> Mapping[int, tuple[float, ...]]:
        """After which steps, at which settings of the dial, images are drawn."""
        return self.options.schedule

    def learn(
        self, subject: Subject, photos: Sequence[Photo], *, seed: int
    ) -> Iterator["LearnedPipeline"]:
        """Train a copy of the base model's pipeline."""
        torch.manual_seed(seed)
        pipeline = _pipeline(self.base, self.source)
        learner = _Learner(self, pipeline, subject, photos, seed)
        for number in range(1, max(self.schedule) + 1):
            learner.step()
            if number in self.schedule:
                yield LearnedPipeline(self.base, learner, steps=number)


class LearnedPipeline:
    """A pipeline whose weights have changed; valid until its training goes on."""

    def __init__(self, base: BaseModel, learner: "_Learner", *, steps: int) -> None:
        self._base, self._learner, self.steps = base, learner, steps
        self.seconds = learner.seconds
        self.stored_bytes = 4 * learner.learned_count

    @torch.no_grad()
    def draw(self, prompts: Sequence[str], seeds: Sequence[int], dial: float) -> list[Image.Image]:
        """Draw images by the pipeline itself; `dial` scales LoRA's adapter."""
        pipeline, defaults = self._learner.pipeline, self._base.defaults.generate_config()
        if hasattr(pipeline.unet, "peft_config"):
            pipeline.unet.set_adapters(["default"], [dial])
        side = pipeline.unet.config.sample_size
        shape = (pipeline.unet.config.in_channels, side, side)
        images: list[Image.Image] = []
        at_once = images_at_once(self._base)
        for begin in range(0, len(prompts), at_once):
            batch = slice(begin, begin + at_once)
            pipeline.scheduler = make_scheduler(self._base, defaults.scheduler)
            images += pipeline(
                [prompt.format(f"a {self._learner.word}") for prompt in prompts[batch]],
                latents=noise_of(seeds[batch], shape).to(self._base.device),
                num_inference_steps=defaults.num_inference_steps,
                guidance_scale=defaults.guidance_scale,
            ).images
        if hasattr(pipeline.unet, "peft_config"):
            pipeline.unet.set_adapters(["default"], [1.0])
        return images

    def keep(self, file: Path) -> None:
        """Write the word's embedding."""
        save_file({"embedding": self._learner.table[-1].detach().cpu().clone()}, file)


def textual_inversion(base: BaseModel, source: Path, options: Options) -> Baseline:
    """Only the word's embedding is learned (Gal et al. 2022)."""
    return Baseline(base, source, "textual inversion", options, lambda _p, _o: [], False)


def dreambooth(base: BaseModel, source: Path, options: Options) -> Baseline:
    """All of the U-Net, with prior preservation (Ruiz et al. 2023)."""

    def unfreeze(pipeline: Any, _options: Options) -> list[Tensor]:
        return _unfrozen(pipeline.unet.parameters())

    return Baseline(base, source, "dreambooth", options, unfreeze, True)


def custom_diffusion(base: BaseModel, source: Path, options: Options) -> Baseline:
    """Cross-attention Keys, Values and the word, with a prior (Kumari et al. 2023)."""

    def unfreeze(pipeline: Any, _options: Options) -> list[Tensor]:
        named = pipeline.unet.named_parameters()
        return _unfrozen(w for n, w in named if ".attn2.to_k." in n or ".attn2.to_v." in n)

    return Baseline(base, source, "custom diffusion", options, unfreeze, True)


def lora(base: BaseModel, source: Path, options: Options) -> Baseline:
    """Low-rank additions to the attention's projections (Hu et al. 2021), by peft."""

    def unfreeze(pipeline: Any, options: Options) -> list[Tensor]:
        rank, projections = options.rank, list(options.projections)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=projections)
        pipeline.unet.add_adapter(config)
        return [parameter for parameter in pipeline.unet.parameters() if parameter.requires_grad]

    return Baseline(base, source, "lora", options, unfreeze, True)


class _Learner:
    """One training in progress."""

    def __init__(
        self,
        method: Baseline,
        pipeline: Any,
        subject: Subject,
        photos: Sequence[Photo],
        seed: int,
    ) -> None:
        options = method.options
        begun_s = time.perf_counter()
        self.pipeline, self._options = pipeline, options
        self._superclass = subject.superclass
        self.word = f"{TOKEN} {subject.superclass}" if method.beside_superclass else TOKEN
        self.table = _add_word(pipeline, None if method.beside_superclass else subject.superclass)
        self._other_words = self.table.detach()[:-1].clone()
        self._latents = _latents(pipeline, photos)
        self._class_latents = _class_latents(method.base, pipeline, subject, options)
        learned = method.unfreeze(pipeline, options)
        self.learned_count = sum(parameter.numel() for parameter in learned)
        groups: list[dict[str, Any]] = []
        if learned:
            groups.append({"params": learned, "lr": options.rate})
        if options.embedding_rate:
            self.learned_count += self.table.shape[1]
            groups.append({"params": [self.table.requires_grad_()], "lr": options.embedding_rate})
        self._optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        self._draw = torch.Generator().manual_seed(seed)
        self.seconds = time.perf_counter() - begun_s

    def step(self) -> None:
        begun_s = time.perf_counter()
        loss = self._loss(self._latents, self.word)
        if self._class_latents is not None:
            plain = self._loss(self._class_latents, self._superclass)
            loss = loss + self._options.prior * plain
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            self.table[:-1] = self._other_words  # only the word's own row is learned
        self.seconds += time.perf_counter() - begun_s

    def _loss(self, latents: Tensor, word: str) -> Tensor:
        pipeline, draw, batch = self.pipeline, self._draw, self._options.batch
        chosen = torch.randint(len(latents), (batch,), generator=draw)
        which = torch.randint(len(TEMPLATES), (batch,), generator=draw).tolist()
        ids = pipeline.tokenizer(
            [TEMPLATES[k].format(word) for k in which],
            padding="max_length", truncation=True, return_tensors="pt",
        ).input_ids  # fmt: skip
        scheduler, clean = pipeline.scheduler, latents[chosen]
        t = torch.randint(scheduler.config.num_train_timesteps, (batch,), generator=draw)
        noise = torch.randn(clean.shape, generator=draw)
        t, noise, ids = (drawn.to(clean.device) for drawn in (t, noise, ids))
        told = pipeline.text_encoder(ids)[0]
        noisy = scheduler.add_noise(clean, noise, t)
        predicted = pipeline.unet(noisy, t, encoder_hidden_states=told).sample
        loss: Tensor = functional.mse_loss(predicted, wanted_prediction(scheduler, clean, noise, t))
        return loss


def _pipeline(base: BaseModel, source: Path) -> Any:
    pipeline = StableDiffusionPipeline.from_pretrained(
        source, dtype=torch.float32, safety_checker=None, requires_safety_checker=False
    ).to(base.device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = make_scheduler(base, "ddim")
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        module.requires_grad_(False).eval()
    return pipeline


def _unfrozen(weights: Iterable[Tensor]) -> list[Tensor]:
    return [weight.requires_grad_() for weight in weights]


def _add_word(pipeline: Any, superclass: str | None) -> Tensor:
    """Add a token like the superclass's, or as random as a rare word's; return the whole table."""
    pipeline.tokenizer.add_tokens([TOKEN])
    table: Tensor = pipeline.text_encoder.resize_token_embeddings(
        len(pipeline.tokenizer), mean_resizing=False
    ).weight
    with torch.no_grad():
        if superclass is None:
            table[-1] = table[:-1].std() * torch.randn(table.shape[1])
        else:
            ids = pipeline.tokenizer(superclass, add_special_tokens=False).input_ids
            table[-1] = table[ids[-1]]
    table.requires_grad_(False)
    return table


@torch.no_grad()
def _latents(pipeline: Any, photos: Sequence[Photo]) -> Tensor:
    """Return the latents of the photos and of their mirror images, (2 n, c, h, w)."""
    pixels = torch.stack([to_pixels(photo.picture, side=photo.picture.width) for photo in photos])
    both = torch.cat([pixels, pixels.flip(-1)]).to(pipeline.device)
    latents: Tensor = pipeline.vae.encode(both).latent_dist.mode()
    return latents * float(pipeline.vae.config.scaling_factor)


@torch.no_grad()
def _class_latents(
    base: BaseModel, pipeline: Any, subject: Subject, options: Options
) -> Tensor | None:
    """Generate examples of the superclass, if the prior is to be preserved."""
    if not options.prior:
        return None
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
