"""What a single file holds, told from the names and shapes of its tensors."""

from collections.abc import Mapping

from torch import Tensor

from perfusion_core.checkpoints.index import REMEDY
from perfusion_core.errors import BaseModelError

UNET = "model.diffusion_model."
VAE = "first_stage_model."
_OLD_TEXT = "cond_stage_model.transformer."
_TEXT = _OLD_TEXT + "text_model."

_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "sdxl": ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
    "sd2": ("cond_stage_model.model.",),
    "sd1": (_OLD_TEXT,),
}
"""The original names of each family's text encoders."""

# A part of a tensor's name, and what a file with such a name is.
_OTHERS: Mapping[str, str] = {
    "lora_": "a LoRA. Merge it into the model that it changes, and use the result.",
    ".lora": "a LoRA. Merge it into the model that it changes, and use the result.",
    "hada_w1": "a LyCORIS. Merge it into the model that it changes, and use the result.",
    "emb_params": "a textual inversion embedding, which belongs to another model.",
    "string_to_param": "a textual inversion embedding, which belongs to another model.",
    "double_blocks.": f"a Flux model, which is not supported. {REMEDY}",
    "joint_blocks.": f"a Stable Diffusion 3 model, which is not supported. {REMEDY}",
    "motion_modules.": f"an AnimateDiff model, which is not supported. {REMEDY}",
    "control_model.": f"a ControlNet, which is not supported. {REMEDY}",
    "edm_mean": f"a Playground model with EDM's noise, which is not supported. {REMEDY}",
    "edm_vpred": f"a model with EDM's noise, which is not supported. {REMEDY}",
}


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names of the original releases.

    Merges of 2022 and 2023 call the first text encoder's tensors by shorter names.
    """
    return {
        _TEXT + name.removeprefix(_OLD_TEXT)
        if name.startswith(_OLD_TEXT) and not name.startswith(_TEXT)
        else name: tensor
        for name, tensor in tensors.items()
    }


def family_of(tensors: Mapping[str, Tensor], *, name: str) -> str:
    """Return `sd1`, `sd2` or `sdxl`; raise BaseModelError if the file is another or not whole.

    `tensors` are by their original names; `name` is the file's, for the message.
    """
    for mark, what in _OTHERS.items():
        if any(mark in key for key in tensors):
            raise BaseModelError(f"{name!r} is {what}")
    entry = tensors.get(f"{UNET}input_blocks.0.0.weight")
    if entry is None:
        raise BaseModelError(
            f"{name!r} holds no U-Net in the layout of Stable Diffusion's releases "
            f"({UNET}*). {REMEDY}"
        )
    channels = entry.shape[1]
    if channels != 4:
        kind = "an inpainting" if channels == 9 else "an editing"
        raise BaseModelError(
            f"{name!r} is {kind} model: its U-Net has {channels} input channels. Use the "
            "text-to-image model that it was made from."
        )
    if any(key.startswith("conditioner.embedders.0.model.") for key in tensors):
        raise BaseModelError(
            f"{name!r} is a refiner, which finishes images of another model. Use the base model, "
            "such as sd_xl_base_1.0.safetensors."
        )
    if not any(key.startswith(VAE) for key in tensors):
        raise BaseModelError(
            f"{name!r} holds no VAE ({VAE}*). Use the file that includes the VAE, or save the "
            "model as a diffusers folder with one."
        )
    for family, prefixes in _FAMILIES.items():
        if all(any(key.startswith(prefix) for key in tensors) for prefix in prefixes):
            return family
    raise BaseModelError(
        f"{name!r} holds no text encoder of a known family (cond_stage_model.* or conditioner.*). "
        "Use the file that includes the text encoder."
    )
