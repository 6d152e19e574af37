"""The encodings that a concept starts from: e_super of its superclass, and i* of its placeholder.

Both encodings, e_super and i*, are averaged over the training prompts (METHOD 4 and 5).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_core.text.templates import TEMPLATES
from perfusion_core.text.training_prompts import TrainingPrompts

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@torch.no_grad()
def superclass_encoding(
    base: "BaseModel", superclass: str, *, templates: Sequence[str] = TEMPLATES
) -> Tensor:
    """Return e_super (d,), the encoding of the superclass.

    The result is cached per base model, superclass and templates.
    """
    key = (superclass, tuple(templates))
    known = base.superclass_encodings.get(key)
    if known is None:
        prompts = TrainingPrompts.of(base.tokenizers, templates, superclass=superclass)
        known = prompts.at_superclass(base.text.encode(prompts.written).e).mean(0)
        base.superclass_encodings[key] = known
    return known


@torch.no_grad()
def placeholder_encoding(
    base: "BaseModel", prompts: TrainingPrompts, *, embeddings: tuple[Tensor, ...]
) -> Tensor:
    """Return the encoding (d,) of a placeholder with these word embeddings, one per text encoder.

    If the superclass is one token and its word embedding is given, the returned encoding equals
    e_super. If the superclass is several tokens, the placeholder holds only the last token's
    embedding.
    """
    e = base.text.encode(prompts.ids, prompts.replacements(embeddings)).e  # (P, N, d)
    return prompts.at_concept(e).mean(0)
