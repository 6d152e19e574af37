"""The card of a concept, in the form of a hub's model card. Does not import torch."""

import re

from huggingface_hub import ModelCardData

from perfusion_core.concept import Concept
from perfusion_core.evaluation.verdict import Verdict
from perfusion_core.export.embedding import SDXL_KEYS
from perfusion_core.export.metadata import lora_scale
from perfusion_core.export.names import FileNames

DEFAULT_LICENSE = "unknown"
_FAMILY_TAGS = {
    "sd1": "stable-diffusion",
    "sd2": "stable-diffusion",
    "sdxl": "stable-diffusion-xl",
}
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PIPELINES = {"sdxl": "StableDiffusionXLPipeline"}
_LOADS_ONE = 'pipeline.load_textual_inversion(FOLDER, weight_name="{file}")'
_LOADS_TWO = """\
words = load_file(f"{{FOLDER}}/{file}")
for key, encoder, tokenizer in (
    ("{clip_l}", pipeline.text_encoder, pipeline.tokenizer),
    ("{clip_g}", pipeline.text_encoder_2, pipeline.tokenizer_2),
):
    pipeline.load_textual_inversion(
        words[key], token="{placeholder}", text_encoder=encoder, tokenizer=tokenizer
    )"""


def write_card(
    concept: Concept,
    *,
    judged: Verdict | None = None,
    license: str = DEFAULT_LICENSE,
    has_sheet: bool = False,
) -> str:
    """Return the card as Markdown, with the hub's YAML header.

    `judged` is the verdict by the base model's own calibration, if it is at hand. `license` is an
    identifier of the hub, such as `cc-by-4.0`.
    """
    names = FileNames(concept.name)
    sheet = f"\n![Images by bias]({names.sheet})\n" if has_sheet else ""
    return f"""---
{_header(concept, license=license, has_sheet=has_sheet)}
---

# {concept.placeholder}

{_a(concept.superclass)} that the frozen text-to-image model `{concept.base_model_name}` was taught
by [Perfusion](https://arxiv.org/abs/2305.01644).
{sheet}
| file | what it is |
| --- | --- |
| `{names.concept}` | the concept, for Perfusion |
| `{names.lora}` | a LoRA of rank 1, for other tools |
| `{names.embedding}` | the word's embedding, for the same tools: the LoRA needs it |

**At LoRA scale {lora_scale(concept):g} the images look like Perfusion's own** at the strength
{lora_scale(concept):g}{_why(concept)}. A LoRA is linear: it has neither the gate that keeps other
words as they were nor the gates that keep several concepts apart. So two such LoRAs in one image
blend more than two concepts in Perfusion do.

## How good it is
{_figures(concept, judged)}

## How to use it
Perfusion: `perfusion generate "a photo of a {concept.placeholder}" --concept {names.concept}`, or
import `{names.concept}`.

diffusers:
```python
{_code(concept, names)}
```

| tool | LoRA into | embedding into | prompt |
| --- | --- | --- | --- |
| ComfyUI | `models/loras`, a node *Load LoRA* (model strength {lora_scale(concept):g}) | \
`models/embeddings` | `a photo of a embedding:{names.word}` |
| A1111 | `models/Lora` | `embeddings` | \
`a photo of a {names.word} <lora:{names.lora_word}:{lora_scale(concept):g}>` |
| InvokeAI | Model Manager, weight {lora_scale(concept):g} | Model Manager | \
`a photo of a <{names.word}>` |

## What it belongs to
| | |
| --- | --- |
| base model | `{concept.base_model_name}` ({concept.family}) |
| fingerprint of the base model | `{concept.base_model_fingerprint}` |
| fingerprint of the covariance | `{concept.covariance_fingerprint}` |
| steps | {concept.training.get("steps", "unknown")} |
| resolution | {concept.training.get("resolution", "unknown")} |
| masks | {concept.mask_source} |

Licence: `{license}`. The holder of the rights to the pictures chooses it.
"""


def _header(concept: Concept, *, license: str, has_sheet: bool) -> str:
    names, prompt = FileNames(concept.name), f"a photo of a {concept.placeholder}"
    base_model, _, _ = concept.base_model_name.partition("@")
    on_hub = _HUB_NAME.fullmatch(base_model) is not None
    return str(
        ModelCardData(
            license=license,
            library_name="diffusers",
            pipeline_tag="text-to-image",
            base_model=base_model if on_hub else None,
            base_model_relation="adapter" if on_hub else None,
            instance_prompt=prompt,
            tags=["text-to-image", "diffusers", "lora", "textual_inversion", "perfusion",
                  _FAMILY_TAGS[concept.family]],
            widget=[{"text": prompt, "output": {"url": names.sheet}}] if has_sheet else None,
        ).to_yaml()
    )  # fmt: skip


def _figures(concept: Concept, judged: Verdict | None) -> str:
    found = concept.evaluation
    if found is None or found.curve is None:
        return "It was not measured, since no evaluator was there."
    told = "" if judged is None else f"**{judged.quality}**: {' '.join(judged.reasons)}\n\n"
    plain = found.curve.superclass
    rows = "\n".join(
        f"| {point.beta:.2f} | {point.strength:g} | {point.similarity.image:.3f} | "
        f"{point.similarity.text:.3f} |"
        for point in found.curve.points
    )
    return (
        f"{told}Measured by `{found.evaluator.name}`, in Perfusion:\n\n"
        "| β | strength | similarity to the pictures | similarity to the prompt |\n"
        f"| --- | --- | --- | --- |\n| plain {concept.superclass} | | {plain.image:.3f} | "
        f"{plain.text:.3f} |\n{rows}"
    )


def _code(concept: Concept, names: FileNames) -> str:
    pipeline = _PIPELINES.get(concept.family, "StableDiffusionPipeline")
    two = len(concept.embeddings) > 1
    base_model, at, revision = concept.base_model_name.partition("@")
    loads = (_LOADS_TWO if two else _LOADS_ONE).format(
        file=names.embedding,
        clip_l=SDXL_KEYS[0],
        clip_g=SDXL_KEYS[1],
        placeholder=concept.placeholder,
    )
    imports = "from safetensors.torch import load_file\n" if two else ""
    pinned = f', revision="{revision}"' if at else ""
    return f"""from diffusers import {pipeline}
{imports}
FOLDER = "."  # of these files, or OWNER/NAME on a hub
pipeline = {pipeline}.from_pretrained("{base_model}"{pinned})
{loads}
pipeline.load_lora_weights(FOLDER, weight_name="{names.lora}", adapter_name="{concept.name}")
pipeline.set_adapters("{concept.name}", {lora_scale(concept):g})
pipeline("a photo of a {concept.placeholder}").images[0]"""


def _why(concept: Concept) -> str:
    return ", which its curve recommends" if concept.curve else ", the default"


def _a(superclass: str) -> str:
    return f"{'An' if superclass[0].lower() in 'aeiou' else 'A'} {superclass}"
