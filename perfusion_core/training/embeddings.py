"""The placeholder's word embedding: its start, and a rate that fits the text encoder's scale."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_core.config import TrainConfig
from perfusion_core.text.tokenization import superclass_ids
from perfusion_core.text.training_prompts import TrainingPrompts

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel

REFERENCE_DEVIATION = 0.176
"""The deviation of the shipped encoder's word embeddings, on which the shipped defaults were
measured. With `scale_embedding_rate` a rate means the same share of the deviation as there."""

_FIT_STEPS = 100
_FIT_RATE = 0.1  # in the table's deviations


def start_embeddings(
    base: "BaseModel", prompts: TrainingPrompts, *, superclass: str, fitted: bool = False
) -> tuple[Tensor, ...]:
    """Return the embeddings that a placeholder starts with, as leaves, one per text encoder.

    Each is the word embedding of the superclass's last token. With `fitted` and a superclass of
    several tokens, each is moved from there until the placeholder's encoding is near the encoding
    of the whole superclass, e_super (METHOD 5).
    """
    ids = [superclass_ids(tokenizer, superclass) for tokenizer in base.tokenizers]
    start = tuple(
        table[own[-1]].detach().to(base.device, copy=True)
        for own, table in zip(ids, base.text.tables, strict=True)
    )
    if not fitted or all(len(own) == 1 for own in ids):
        return tuple(embedding.requires_grad_() for embedding in start)
    return _fitted(base, prompts, start)


def embedding_rates(config: TrainConfig, tables: Sequence[Tensor]) -> list[float]:
    """Return AdamW's rate for each text encoder's embedding.

    AdamW moves each number by about its rate in a step, whatever the gradient. So a rate of 0.006
    is 3 % of the shipped encoder's deviation, but about 42 % of that of SD 1.5's encoder.
    """
    rate = config.embedding_learning_rate
    if not config.scale_embedding_rate:
        return [rate for _ in tables]
    return [rate * float(table.detach().float().std()) / REFERENCE_DEVIATION for table in tables]


def hold_norms(embeddings: Sequence[Tensor], norms: Sequence[Tensor]) -> None:
    """Scale each embedding in place to its norm; its direction stays."""
    with torch.no_grad():
        for embedding, norm in zip(embeddings, norms, strict=True):
            embedding.mul_(norm / embedding.norm())


def _fitted(
    base: "BaseModel", prompts: TrainingPrompts, start: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Minimise the mean squared distance of both encodings over the training prompts."""
    with torch.no_grad():
        wanted = prompts.at_superclass(base.text.encode(prompts.written).e)  # (P, d)
    embeddings = tuple(embedding.clone().requires_grad_() for embedding in start)
    optimizer = torch.optim.Adam(
        [
            {"params": [embedding], "lr": _FIT_RATE * float(table.float().std())}
            for embedding, table in zip(embeddings, base.text.tables, strict=True)
        ]
    )
    # A text encoder is causal, so what comes after the placeholder need not be encoded.
    ids = [[row[: max(prompts.places) + 1] for row in rows] for rows in prompts.ids]
    for _ in range(_FIT_STEPS):
        optimizer.zero_grad(set_to_none=True)
        e = base.text.encode(ids, prompts.replacements(embeddings)).e
        distance = (prompts.at_concept(e) - wanted).square().mean()
        distance.backward()
        optimizer.step()
    return embeddings
