"""The LoRA of a concept in unmodified diffusers, next to the product.

    python -m benchmarks.lora_export [--subjects teddy-bear ...] [--scales 0.8 0.9 1.0]
                                     [--concepts FOLDER] [--results FOLDER]

Each of eight subjects is taught with the base model's defaults and the shipped evaluator, so that
its concept recommends a strength. The product draws six prompts x four seeds at that strength, with
local locking. diffusers draws the same prompts from the same noise, with the exported LoRA at its
card's scale and with the exported embedding. A row is the mean over subjects; a difference is
paired by image, and its interval is of the subjects' means (95 %, Student's t). `--scales` measures
more scales. Exports, figures and sheets (product above, export below) are kept in the folder of
results, and concepts in a folder of their own (benchmarks/taught.py); they are not made again.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch import Tensor

from benchmarks.paper import contact
from benchmarks.paper.kept import EVALUATOR, RESULTS
from benchmarks.paper.methods.method import BASE_FOLDER
from benchmarks.paper.methods.perfusion import draw_all
from benchmarks.paper.subjects import REPORTED, Subject, photograph, prompts_of
from benchmarks.taught import CONCEPTS, teach
from perfusion_core import BaseModel, Concept, ConceptUse
from perfusion_core.config import read_defaults
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.export.embedding import export_embedding
from perfusion_core.export.lora import export_lora
from perfusion_core.export.metadata import lora_scale
from perfusion_core.export.names import FileNames

CARD = "LoRA at the card's scale"
_PROMPT_COUNT, _SEEDS = 6, range(7000, 7004)
# Student's t for 95 % and n - 1 degrees of freedom.
_T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36}


@dataclass(frozen=True)
class Measured:
    """Similarities of one subject's images, in one order of prompts and seeds."""

    image: list[float]  # to the photos
    text: list[float]  # to the prompt with the superclass


@dataclass(frozen=True)
class Compared:
    """The figures of one subject: the product's, and the export's at each scale."""

    scale: float  # the card's
    rows: dict[str, Measured]

    @classmethod
    def read(cls, file: Path) -> "Compared":
        """Read kept figures."""
        told = json.loads(file.read_text())
        return cls(told["scale"], {name: Measured(**row) for name, row in told["rows"].items()})

    def told(self) -> str:
        """Return the means in words."""
        own, exported = self.rows["product"], self.rows[CARD]
        return (
            f"scale {self.scale:g}, image {fmean(own.image):.3f} and {fmean(exported.image):.3f}, "
            f"text {fmean(own.text):.3f} and {fmean(exported.text):.3f}"
        )


def by_product(base: BaseModel, concept: Concept) -> list[Image.Image]:
    """Draw the product's images at the recommended strength, with local locking."""
    uses = {concept.name: ConceptUse(concept)}
    texts = [prompt for prompt in _prompts(concept.placeholder) for _ in _SEEDS]
    config = base.defaults.generate_config({"num_images": 1})
    return draw_all(base, texts, list(_SEEDS) * _PROMPT_COUNT, uses, config)


def by_diffusers(concept: Concept, files: dict[str, Path], *, scale: float) -> list[Image.Image]:
    """Draw by an unmodified pipeline that has loaded both exported files."""
    pipeline: Any = StableDiffusionPipeline.from_pretrained(BASE_FOLDER, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_textual_inversion(files["embedding"])
    pipeline.load_lora_weights(files["lora"], adapter_name="concept")
    pipeline.set_adapters("concept", scale)
    config = read_defaults(BASE_FOLDER).generate_config()
    images: list[Image.Image] = []
    for prompt in _prompts(concept.placeholder):
        noise = torch.cat([_noise(pipeline, seed) for seed in _SEEDS])
        images += pipeline(
            [prompt] * len(_SEEDS), latents=noise, guidance_scale=config.guidance_scale,
            num_inference_steps=config.num_inference_steps,
        ).images  # fmt: skip
    return images


def _noise(pipeline: Any, seed: int) -> Tensor:
    """Return the noise from which the product draws this seed."""
    unet = pipeline.unet.config
    shape = (1, unet.in_channels, unet.sample_size, unet.sample_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _prompts(subject: str) -> list[str]:
    return [prompt.format(f"a {subject}") for prompt in prompts_of(REPORTED[0])[:_PROMPT_COUNT]]


def measure(evaluator: Evaluator, images: Sequence[Image.Image], subject: Subject) -> Measured:
    """Measure the images of one subject."""
    side = images[0].width
    photos = [photo.picture for photo in photograph(subject, side=side)]
    embedded = evaluator.embed_images(images)
    told = evaluator.embed_texts([p for p in _prompts(subject.superclass) for _ in _SEEDS])
    return Measured(
        image=(embedded @ evaluator.embed_images(photos).T).mean(-1).tolist(),
        text=(embedded * told).sum(-1).tolist(),
    )


def paired(own: Sequence[Measured], other: Sequence[Measured], of: str) -> str:
    """Return the mean difference other - own, and half of its interval over subjects."""
    means = [
        fmean(b - a for a, b in zip(getattr(x, of), getattr(y, of), strict=True))
        for x, y in zip(own, other, strict=True)
    ]
    if len(means) < min(_T):
        return f"{means[0]:+.4f}"
    half = _T[len(means)] * stdev(means) / len(means) ** 0.5
    return f"{fmean(means):+.4f} ± {half:.4f}"


def main() -> None:
    """Make what is missing, draw both, and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [subject.name for subject in REPORTED]
    parser.add_argument("--subjects", nargs="*", choices=names, default=names[:8])
    parser.add_argument("--scales", type=float, nargs="*", default=[])
    parser.add_argument("--results", type=Path, default=RESULTS / "lora_export", metavar="FOLDER")
    parser.add_argument("--concepts", type=Path, default=CONCEPTS, metavar="FOLDER")
    asked = parser.parse_args()
    asked.results.mkdir(parents=True, exist_ok=True)
    base, evaluator = BaseModel.load(BASE_FOLDER), Evaluator(EVALUATOR)
    found = []
    for subject in REPORTED:
        if subject.name in asked.subjects:
            found.append(
                compare(
                    base,
                    evaluator,
                    subject,
                    asked.results,
                    concepts=asked.concepts,
                    scales=asked.scales,
                )
            )
            print(f"{subject.name}: {found[-1].told()}", flush=True)
    product = [each.rows["product"] for each in found]
    for name in found[0].rows:
        own = [each.rows[name] for each in found]
        print(
            f"| {name} | {_mean(own, 'image')} | {_mean(own, 'text')} | "
            f"{paired(product, own, 'image')} | {paired(product, own, 'text')} |"
        )


def compare(
    base: BaseModel,
    evaluator: Evaluator,
    subject: Subject,
    folder: Path,
    *,
    concepts: Path,
    scales: Sequence[float],
) -> Compared:
    """Draw and measure one subject by the product and by diffusers, or read the kept figures."""
    kept = folder / f"{subject.name}.json"
    if kept.exists():
        return Compared.read(kept)
    concept = teach(base, evaluator, subject, concepts)
    names = FileNames(subject.name)
    files = {"lora": folder / names.lora, "embedding": folder / names.embedding}
    files["lora"].write_bytes(export_lora(base, concept))
    files["embedding"].write_bytes(export_embedding(concept))
    images = {"product": by_product(base, concept)}
    for name, scale in {CARD: lora_scale(concept), **{f"{s:g}": s for s in scales}}.items():
        images[name] = by_diffusers(concept, files, scale=scale)
    contact.write(list(images.values()), folder / f"{subject.name}.png")
    rows = {name: measure(evaluator, drawn, subject) for name, drawn in images.items()}
    compared = Compared(lora_scale(concept), rows)
    kept.write_text(json.dumps(asdict(compared)))
    return compared


def _mean(found: Sequence[Measured], of: str) -> str:
    return f"{fmean(fmean(getattr(each, of)) for each in found):.3f}"


if __name__ == "__main__":
    main()
