"""Which files of a diffusers folder are needed: one kind of weights a part, and configurations.

A repository often holds the same weights several times. One kind is chosen for each part:
safetensors before pickles, and full precision before float16, because training starts from either.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from perfusion_core.checkpoints.index import INDEX_FILE, Index
from perfusion_core.errors import BaseModelError

_WEIGHTS = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model)(?P<early>\.fp16)?(-\d+-of-\d+)?"
    r"(?P<late>\.fp16)?\.(?P<kind>safetensors|bin)"
)
_WEIGHTS_INDEX = re.compile(
    r"(diffusion_pytorch_model|pytorch_model|model)\.(?P<kind>safetensors|bin)\.index"
    r"(?P<late>\.fp16)?\.json"
)
_PLAIN = re.compile(r"[^/]*\.(json|txt)")
_OF_THE_FOLDER = (INDEX_FILE, "perfusion.json", "calibration.json", "covariance.safetensors")
_ORDER = ((False, "safetensors"), (True, "safetensors"), (False, "bin"), (True, "bin"))
_MODELS = ("unet", "vae", "text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Weights:
    """The chosen weights of one part: its files, and how diffusers is asked for them."""

    files: tuple[str, ...]
    variant: str | None
    safetensors: bool


def choose_weights(part: str, files: Iterable[str], *, name: str) -> Weights:
    """Choose the weights of `part` among `files`, paths inside the model's folder.

    Raises BaseModelError if the part has no weights in a known format; `name` is the model's.
    """
    own = [file for file in sorted(files) if file.startswith(f"{part}/")]
    for fp16, kind in _ORDER:
        chosen = tuple(file for file in own if _kind(file) == (fp16, kind))
        if any(_WEIGHTS.fullmatch(file.rpartition("/")[2]) for file in chosen):
            return Weights(chosen, "fp16" if fp16 else None, kind == "safetensors")
    there = [file for file in own if not _PLAIN.fullmatch(file.rpartition("/")[2])]
    found = f"It holds {', '.join(there)}." if there else "Its folder holds no weights at all."
    raise BaseModelError(
        f"The {part} of {name!r} has no weights that can be loaded: "
        f"{part}/*.safetensors, *.fp16.safetensors and *.bin are looked for. {found}"
    )


def needed_files(index: Index, files: Iterable[str], *, name: str) -> list[str]:
    """Return the files that the pipeline is read from: `index`'s parts, without a safety checker.

    Raises BaseModelError if a part has no weights in a known format.
    """
    there = sorted(files)
    needed = [file for file in _OF_THE_FOLDER if file in there]
    for part in (*index.parts, "scheduler"):
        if part in _MODELS:
            needed += choose_weights(part, there, name=name).files
        needed += [
            file
            for file in there
            if file.startswith(f"{part}/")
            and _PLAIN.fullmatch(file.rpartition("/")[2])
            and not _kind(file)
            and "adapter_" not in file
        ]
    return sorted(set(needed))


def _kind(file: str) -> tuple[bool, str] | None:
    """Return whether weights, or the list of their parts, are in float16, and their format."""
    base = file.rpartition("/")[2]
    found = _WEIGHTS.fullmatch(base) or _WEIGHTS_INDEX.fullmatch(base)
    if found is None:
        return None
    groups = found.groupdict()
    return bool(groups.get("early") or groups["late"]), groups["kind"]
