"""The files that a page needs to draw prompts with a base model, but for its own code."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from perfusion_core.browser.graphs import check, decoder_graph, sampling_steps, step_graph
from perfusion_core.browser.prompts import OpenPrompt, open_prompt
from perfusion_core.browser.weights import Storage, stored
from perfusion_core.conditioning import ConceptUse
from perfusion_core.imaging import provenance

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel

STEPS = 8


def make_files(
    base: "BaseModel",
    prompts: Mapping[str, Mapping[str, ConceptUse]],
    *,
    runtime: Mapping[str, bytes],
    unet: Storage = "int8",
    decoder: Storage = "float16",
    tells_prompts: bool = True,
) -> dict[str, bytes]:
    """Return the files by name: runtime, graphs, Keys and Values of `prompts`, and drawing.json.

    `prompts` maps each prompt to the concepts that it names. `runtime` holds runtime.mjs and
    runtime.bin. `unet` and `decoder` say how weights are stored, and `tells_prompts` whether saved
    images say their prompt. Images have the base model's
    resolution, its default guidance and STEPS steps of DDIM. Raises BaseModelError if a page
    cannot draw with this base model.
    """
    check(base)
    config = base.defaults.generate_config({"num_inference_steps": STEPS, "scheduler": "ddim"})
    opened = [open_prompt(base, text, uses, config=config) for text, uses in prompts.items()]
    rows, tokens, width = opened[0].closed.shape
    files = {
        **runtime,
        "step.onnx": stored(step_graph(base, config, tokens=tokens), unet),
        "decoder.onnx": stored(decoder_graph(base), decoder),
    }
    files |= {f"prompt-{k}.bin": _bytes_of(prompt) for k, prompt in enumerate(opened)}
    side, channels = int(base.unet.config.sample_size), int(base.unet.config.in_channels)
    told = {
        "base_model": base.name,
        "side": base.default_resolution,
        "latents": [1, channels, side, side],
        "packed": [rows, tokens, width],
        "steps": sampling_steps(base, config),
        "prompts": [
            {
                **_described(prompt, f"prompt-{k}.bin"),
                "xmp": provenance.xmp(
                    edited=False,
                    base_model=base.name,
                    prompt=prompt.text if tells_prompts else None,
                ),
            }
            for k, prompt in enumerate(opened)
        ],
        "bytes": sum(len(data) for name, data in files.items() if name != "runtime.mjs"),
    }
    return files | {"drawing.json": json.dumps(told, ensure_ascii=False).encode()}


def _described(prompt: OpenPrompt, file: str) -> dict[str, object]:
    concepts: Sequence[dict[str, object]] = [
        {
            "placeholder": f"<{name}>",
            "superclass": use.concept.superclass,
            "beta": round(use.bias("local"), 4),
            "tau": use.tau,
        }
        for name, use in prompt.uses.items()
    ]
    similarities = [round(number, 6) for number in prompt.similarities.flatten().tolist()]
    return {
        "text": prompt.text, "file": file, "concepts": concepts, "similarities": similarities,
    }  # fmt: skip


def _bytes_of(prompt: OpenPrompt) -> bytes:
    """Return `closed`, then `outputs`, in float16, which is little-endian everywhere."""
    parts = (prompt.closed, prompt.outputs)
    return b"".join(part.half().cpu().numpy().astype("<f2").tobytes() for part in parts)
