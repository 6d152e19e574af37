"""A warning about prompts of which the base model's text encoder does not read the end."""

from typing import Any

from perfusion_core.base_model import BaseModel
from perfusion_core.sampling.sampler import ImageRequest
from perfusion_core.text.prompt import parse
from perfusion_core.text.tokenization import cut_sentence
from service.errors import problem


def warnings(base: BaseModel, request: ImageRequest) -> list[dict[str, Any]]:
    """Return a warning for the prompt, and one for the negative prompt, if its end is cut off."""
    told = {"The prompt": request.prompt, "The negative prompt": request.config.negative_prompt}
    sentences = (
        cut_sentence(base.tokenizers[0], parse(text), name=name) for name, text in told.items()
    )
    return [
        {**problem("prompt-cut", sentence), "concepts": []}
        for sentence in sentences
        if sentence is not None
    ]
