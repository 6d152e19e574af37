"""A concept on a sibling of its base model: adapted, and taught there anew.

    python -m benchmarks.siblings [--rate 5e-4]

The sibling is a fine-tune of the shipped base model's U-Net on images that the base model draws and
that are then painted over: its text encoder is the same, its W_K and W_V are not. Each row is drawn
for the same prompts and seeds. A higher rate makes a more distant sibling. Models, concepts and the
sheet of all rows are kept in the folder of results.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from diffusers import DDPMScheduler, DiffusionPipeline
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from api.demo.subjects import SUBJECTS, photograph
from benchmarks.paper import contact
from benchmarks.paper.kept import EVALUATOR, RESULTS
from benchmarks.paper.methods.method import BASE_FOLDER
from benchmarks.paper.methods.perfusion import USUAL_BETA, draw_all
from benchmarks.taught import ALONE
from perfusion_core import BaseModel, Concept, ConceptUse, train
from perfusion_core.covariance.captions import captions
from perfusion_core.evaluators.similarity import Evaluator

SUBJECT = SUBJECTS[0]
_SCENES, _STEPS, _BATCH = 48, 200, 8
_SEEDS = range(7000, 7000 + len(ALONE))


def painted(image: Image.Image) -> Image.Image:
    """Return an image with flat, strong colours: the style that the sibling learns."""
    flat = ImageOps.posterize(image.convert("RGB").filter(ImageFilter.MedianFilter(5)), 3)
    return ImageEnhance.Color(flat).enhance(1.6)


def make_sibling(base: BaseModel, folder: Path, *, rate: float) -> BaseModel:
    """Fine-tune all weights of the U-Net, and keep the pipeline in `folder`."""
    if not (folder / "model_index.json").exists():
        prompts = list(captions(_SCENES, known=base.knows_word))
        config = base.defaults.generate_config({"num_images": 1})
        images = [painted(image) for image in draw_all(base, prompts, range(_SCENES), {}, config)]
        pipeline: Any = DiffusionPipeline.from_pretrained(BASE_FOLDER, dtype=torch.float32)
        _fine_tune(pipeline, prompts, images, rate=rate)
        pipeline.save_pretrained(folder)
        (folder / "perfusion.json").write_bytes((BASE_FOLDER / "perfusion.json").read_bytes())
    return BaseModel.load(folder, covariance_dir=folder)


def _fine_tune(
    pipeline: Any, prompts: Sequence[str], images: Sequence[Image.Image], *, rate: float
) -> None:
    torch.manual_seed(0)
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    latents, e = _encode(pipeline, prompts, images)
    pipeline.unet.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(pipeline.unet.parameters(), rate)
    for _ in range(_STEPS):
        row = torch.randint(len(latents), (_BATCH,))
        noise = torch.randn_like(latents[row])
        timestep = torch.randint(schedule.config.num_train_timesteps, (_BATCH,))
        noisy = schedule.add_noise(latents[row], noise, timestep)
        wanted = noise
        if schedule.config.prediction_type == "v_prediction":
            wanted = schedule.get_velocity(latents[row], noise, timestep)
        found = pipeline.unet(noisy, timestep, encoder_hidden_states=e[row]).sample
        torch.nn.functional.mse_loss(found, wanted).backward()
        optimizer.step()
        optimizer.zero_grad()
    pipeline.unet.requires_grad_(False).eval()


@torch.no_grad()
def _encode(
    pipeline: Any, prompts: Sequence[str], images: Sequence[Image.Image]
) -> tuple[Tensor, Tensor]:
    """Return latents (n, c, h, w) and encodings (n, N, d)."""
    pixels = pipeline.image_processor.preprocess(list(images))
    latents = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
    ids = pipeline.tokenizer(
        list(prompts), padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    return latents, pipeline.text_encoder(ids)[0]


def teach(base: BaseModel, file: Path) -> Concept:
    """Teach the demo's subject with the base model's defaults, or read the kept concept."""
    if not file.exists():
        photos = photograph(SUBJECT)
        training = train(
            base, [photo.picture for photo in photos], masks=[photo.mask for photo in photos],
            name=SUBJECT.name, superclass=SUBJECT.superclass, config=base.defaults.train_config(),
        )  # fmt: skip
        for _ in training:
            pass
        training.concept().save(file)
    return Concept.load(file)


def distance(base: BaseModel, sibling: BaseModel) -> float:
    """Return the relative change of all W_K and W_V, by the Frobenius norm."""
    pairs = [
        (own, other)
        for layer, moved in zip(base.layers, sibling.layers, strict=True)
        for own, other in ((layer.W_K, moved.W_K), (layer.W_V, moved.W_V))
    ]
    changed = sum(float((other - own).square().sum()) for own, other in pairs)
    return float((changed / sum(float(own.square().sum()) for own, _ in pairs)) ** 0.5)


def main() -> None:
    """Make what is missing, draw every row, and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS / "siblings", metavar="FOLDER")
    parser.add_argument("--rate", type=float, default=1e-4, help="of the fine-tuning")
    asked = parser.parse_args()
    folder = asked.results / f"{asked.rate:g}"
    folder.mkdir(parents=True, exist_ok=True)
    base, evaluator = BaseModel.load(BASE_FOLDER), Evaluator(EVALUATOR)
    concept = teach(base, asked.results / "taught.safetensors")
    sibling = make_sibling(base, folder / "sibling", rate=asked.rate)
    anew = teach(sibling, folder / "taught-anew.safetensors")
    photos = [photo.picture for photo in photograph(SUBJECT)]
    seen = evaluator.embed_images(photos)
    texts = [template.format(f"a {SUBJECT.superclass}") for template in ALONE]
    rows = {
        "base model, plain superclass": (base, None),
        "base model, taught": (base, concept),
        "sibling, plain superclass": (sibling, None),
        "sibling, adapted": (sibling, sibling.adapt(concept)),
        "sibling, taught anew": (sibling, anew),
    }
    print(f"change of W_K and W_V: {distance(base, sibling):.3f}")
    sheet = []
    for title, (model, used) in rows.items():
        images = _draw(model, used)
        sheet.append(images)
        embedded = evaluator.embed_images(images)
        told = evaluator.embed_texts(texts)
        likeness = (embedded @ seen.T).mean(-1).tolist()
        text = (embedded * told).sum(-1).tolist()
        print(f"| {title} | {_mean(likeness)} | {_mean(text)} |")
    contact.write(sheet, folder / "sheet.png")


def _draw(base: BaseModel, concept: Concept | None) -> list[Image.Image]:
    subject = SUBJECT.superclass if concept is None else f"<{SUBJECT.name}>"
    uses = {} if concept is None else {SUBJECT.name: ConceptUse(concept, USUAL_BETA)}
    prompts = [template.format(f"a {subject}") for template in ALONE]
    config = base.defaults.generate_config({"num_images": 1})
    return draw_all(base, prompts, list(_SEEDS), uses, config)


def _mean(values: Sequence[float]) -> str:
    return f"{fmean(values):.3f} ± {stdev(values) / len(values) ** 0.5:.3f}"


if __name__ == "__main__":
    main()
