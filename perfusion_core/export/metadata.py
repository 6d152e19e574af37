"""What an exported file says about itself: modelspec's keys, kohya's, and our own.

Does not import torch.
"""

from typing import Literal

from perfusion_core.concept import ARCHITECTURES, Concept
from perfusion_core.evaluation.curve import recommended_strength
from perfusion_core.strength import DEFAULT_BETA, STRENGTH_DIGITS, strength_from_beta

Precision = Literal["float32", "float16"]

KIND = "perfusion.export"
"""The key whose value says what an exported file is: `lora` or `embedding`."""

_KOHYA_VERSIONS = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}


def lora_scale(concept: Concept) -> float:
    """Return the scale at which the LoRA looks like the product at its recommended strength.

    The strength is the gate's value at the concept's own encoding, where the product's Values are
    `s o*` and the LoRA's are `λ o* + (1 − λ) W i*`: so λ is the strength. Without a curve it is the
    strength of the default bias.
    """
    curve = concept.curve
    strength = recommended_strength(curve) if curve else strength_from_beta(DEFAULT_BETA["local"])
    return round(strength, STRENGTH_DIGITS)


def lora_metadata(concept: Concept) -> dict[str, str]:
    """Return the metadata of a LoRA; A1111 and kohya's tools read the keys that begin with ss_."""
    return {
        **_shared(concept, kind="lora"),
        "modelspec.usage_hint": f"LoRA scale {lora_scale(concept):g}, with the embedding file",
        "perfusion.lora_scale": f"{lora_scale(concept):g}",
        "ss_base_model_version": _KOHYA_VERSIONS[concept.family],
        "ss_v2": str(concept.family == "sd2"),
        "ss_network_module": "networks.lora",
        "ss_network_dim": "1",
        "ss_network_alpha": "1",
        "ss_output_name": concept.name,
    }


def embedding_metadata(concept: Concept) -> dict[str, str]:
    """Return the metadata of an embedding."""
    return _shared(concept, kind="embedding")


def _shared(concept: Concept, *, kind: Literal["lora", "embedding"]) -> dict[str, str]:
    modelspec = {"lora": "lora", "embedding": "textual-inversion"}[kind]
    return {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{ARCHITECTURES[concept.family]}/{modelspec}",
        "modelspec.implementation": "diffusers",
        "modelspec.title": concept.name,
        "modelspec.trigger_phrase": concept.placeholder,
        "modelspec.resolution": "{0}x{0}".format(concept.training.get("resolution", "unknown")),
        KIND: kind,
        "perfusion.name": concept.name,
        "perfusion.superclass": concept.superclass,
        "perfusion.base_model": concept.base_model_name,
        "perfusion.base_model_fingerprint": concept.base_model_fingerprint,
    }
