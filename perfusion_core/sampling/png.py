"""Images as PNG files that record their options. Equal images always have equal bytes.

A PNG file has three text chunks: `parameters` in the format that web UIs can read, `perfusion`,
which contains all options as JSON, and XMP, which says that a model made the image. The text chunks
do not depend on the time, the job or the owner.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from perfusion_core.base_model import BaseModel
from perfusion_core.config import SchedulerName
from perfusion_core.editing.edit import Edit
from perfusion_core.imaging import provenance
from perfusion_core.imaging.metadata import EVERYTHING, Metadata
from perfusion_core.sampling.sample import Sample
from perfusion_core.sampling.sampler import ImageRequest
from perfusion_core.sampling.schedulers import resolve

_SAMPLERS: Mapping[SchedulerName, str] = {
    "ddim": "DDIM",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_karras": "DPM++ 2M Karras",
    "euler": "Euler",
    "euler_a": "Euler a",
    "euler_karras": "Euler Karras",
    "lcm": "LCM",
    "tcd": "TCD",
    "unipc": "UniPC",
}
_SHORT_HASH = 10
_MOST_PIXELS_PACKED_WELL = 2048 * 2048
_PROMPTS = ("prompt", "negative_prompt")


def encode(
    sample: Sample,
    *,
    request: ImageRequest,
    concept_hashes: Mapping[str, str],
    base: BaseModel,
    metadata: Metadata = EVERYTHING,
) -> bytes:
    """Return the PNG of an image; `concept_hashes` are the SHA-256 of the concepts' files."""
    texts = PngInfo()
    about = _about(sample, request, concept_hashes, base)
    if metadata.prompts:
        texts.add_text("parameters", _parameters(sample, request, base))
    else:
        about["request"] = {
            name: value for name, value in about["request"].items() if name not in _PROMPTS
        }
    texts.add_text("perfusion", json.dumps(about, sort_keys=True))
    edited = request.edit is not None
    xmp = provenance.xmp(
        edited=edited,
        base_model=base.name,
        prompt=request.prompt if metadata.prompts else None,
    )
    texts.add_itxt(provenance.PNG_KEYWORD, xmp)
    file = io.BytesIO()
    # The colours are sRGB. A profile or EXIF of an edited photo must not come along.
    sample.image.save(
        file,
        "PNG",
        pnginfo=texts,
        icc_profile=None,
        exif=None,
        compress_level=_compress_level(sample.image),
    )
    png = file.getvalue()
    return png if metadata.credentials is None else metadata.credentials.sign(png, edited=edited)


def _compress_level(image: Image.Image) -> int:
    """Return zlib's level: its default, but the fastest for a photo, which would take seconds."""
    return 1 if image.width * image.height > _MOST_PIXELS_PACKED_WELL else 6


def _parameters(sample: Sample, request: ImageRequest, base: BaseModel) -> str:
    config = request.config
    lines = [request.prompt]
    if config.negative_prompt:
        lines.append(f"Negative prompt: {config.negative_prompt}")
    settings = {
        "Steps": config.num_inference_steps,
        "Sampler": _SAMPLERS[resolve(base, config.scheduler)],
        "CFG scale": f"{config.guidance_scale:g}",
        "Seed": sample.seed,
        "Size": f"{sample.image.width}x{sample.image.height}",
        "Model hash": base.fingerprint[:_SHORT_HASH],
        "Model": base.name,
    }
    if request.edit is not None:
        settings["Denoising strength"] = f"{request.edit.denoising_strength:g}"
    lines.append(", ".join(f"{name}: {value}" for name, value in settings.items()))
    return "\n".join(lines)


def _edit_options(edit: Edit | None) -> dict[str, Any]:
    """Return the options of an edit. What it shows or where its mask lies is not among them."""
    if edit is None:
        return {}
    strength = {"denoising_strength": edit.denoising_strength}
    return strength if edit.mask is None else asdict(edit.config) | strength


def _about(
    sample: Sample, request: ImageRequest, concept_hashes: Mapping[str, str], base: BaseModel
) -> dict[str, Any]:
    return {
        "request": {
            "prompt": request.prompt,
            **asdict(request.config),
            "scheduler": resolve(base, request.config.scheduler),
            **_edit_options(request.edit),
        },
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
        "version": provenance.product_version(),
    }
