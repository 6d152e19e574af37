"""Puts the parts of a base model together as diffusers' pipeline, without a safety checker."""

from typing import Any


def assemble(parts: dict[str, Any], *, options: dict[str, Any]) -> Any:
    """Return diffusers' pipeline of these parts."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    if "text_encoder_2" in parts:
        zeros = bool(options.get("force_zeros_for_empty_prompt", True))
        return StableDiffusionXLPipeline(
            **parts, force_zeros_for_empty_prompt=zeros, add_watermarker=False
        )
    return StableDiffusionPipeline(
        **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
