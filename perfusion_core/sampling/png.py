"""Images as PNG files that record their options. Equal images always have equal bytes.

A PNG file has two text chunks: `parameters` in the format that web UIs can read, and `perfusion`,
which contains all options as JSON. The text chunks do not depend on the time, the job or the owner.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from PIL.PngImagePlugin import PngInfo

from perfusion_core.base_model import BaseModel
from perfusion_core.config import SchedulerName
from perfusion_core.sampling.sample import Sample
from perfusion_core.sampling.sampler import ImageRequest

_SAMPLERS: Mapping[SchedulerName, str] = {
    "ddim": "DDIM",
    "dpmpp_2m": "DPM++ 2M",
    "euler": "Euler",
    "unipc": "UniPC",
}
_SHORT_HASH = 10


def encode(
    sample: Sample, *, request: ImageRequest, concept_hashes: Mapping[str, str], base: BaseModel
) -> bytes:
    """Return the PNG of an image; `concept_hashes` are the SHA-256 of the concepts' files."""
    texts = PngInfo()
    texts.add_text("parameters", _parameters(sample, request, base))
    about = _about(sample, request, concept_hashes, base)
    texts.add_text("perfusion", json.dumps(about, sort_keys=True))
    file = io.BytesIO()
    sample.image.save(file, "PNG", pnginfo=texts)
    return file.getvalue()


def _parameters(sample: Sample, request: ImageRequest, base: BaseModel) -> str:
    config = request.config
    lines = [request.prompt]
    if config.negative_prompt:
        lines.append(f"Negative prompt: {config.negative_prompt}")
    settings = {
        "Steps": config.num_inference_steps,
        "Sampler": _SAMPLERS[config.scheduler],
        "CFG scale": f"{config.guidance_scale:g}",
        "Seed": sample.seed,
        "Size": f"{sample.image.width}x{sample.image.height}",
        "Model hash": base.fingerprint[:_SHORT_HASH],
        "Model": base.name,
    }
    lines.append(", ".join(f"{name}: {value}" for name, value in settings.items()))
    return "\n".join(lines)


def _about(
    sample: Sample, request: ImageRequest, concept_hashes: Mapping[str, str], base: BaseModel
) -> dict[str, Any]:
    return {
        "request": {"prompt": request.prompt, **asdict(request.config)},
        "seed": sample.seed,
        "width": sample.image.width,
        "height": sample.image.height,
        "concepts": [
            {
                "name": name,
                "superclass": use.concept.superclass,
                "sha256": concept_hashes[name],
                "beta": use.bias(request.config.locking),
                "tau": use.tau,
            }
            for name, use in sorted(request.concepts.items())
        ],
        "base_model": {
            "name": base.name,
            "fingerprint": base.fingerprint,
            "covariance_fingerprint": base.covariance_fingerprint,
        },
        "version": _version(),
    }


def _version() -> str:
    try:
        return version("perfusion")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
