"""A prompt's Keys and Values with the gates of its concepts left open to choose.

The edit is linear in the gates (equation (3)): at each token, Keys and Values are those of closed
gates plus, for each concept, the gate times the concept's own Keys and Values. A gate depends on
the token's similarity, β and τ alone. So these three parts give every strength exactly.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_core.conditioning import (
    ConceptUse,
    Target,
    edit_of,
    encode,
    keys_and_values,
    target_of,
    tokens_of,
)
from perfusion_core.config import GenerateConfig
from perfusion_core.edit_strategy import STRATEGIES, EditStrategy
from perfusion_core.text.prompt import parse

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@dataclass(frozen=True, kw_only=True)
class OpenPrompt:
    """A prompt's R rows, the negative prompt and the prompt, and its J concepts, local locking."""

    text: str
    uses: Mapping[str, ConceptUse]
    closed: Tensor  # (R, N, 2 Σ d_l): Keys and Values with every gate at 0
    outputs: Tensor  # (J, 2 Σ d_l): each concept's own Keys and Values
    similarities: Tensor  # (R, N, J): what the gates compare with β

    def packed(self, beta: Tensor, tau: Tensor) -> Tensor:
        """Return the Keys and Values (R, N, 2 Σ d_l) at biases and temperatures (J,)."""
        gates = torch.sigmoid((self.similarities - beta) / tau)  # (R, N, J)
        return self.closed + gates @ self.outputs


@torch.no_grad()
def open_prompt(
    base: "BaseModel", prompt: str, uses: Mapping[str, ConceptUse], *, config: GenerateConfig
) -> OpenPrompt:
    """Compute the parts of a prompt that names `uses`; needs at least one concept.

    Without guidance there is no row of the negative prompt. Raises the errors of
    `BaseModel.check` for a concept that does not fit.
    """
    texts = [prompt] if config.guidance_scale <= 1 else [config.negative_prompt, prompt]
    strategy = STRATEGIES[config.gates]
    targets = {name: target_of(base, use) for name, use in uses.items()}
    tokens = tokens_of(base, [parse(text) for text in texts], targets)
    e = encode(base, tokens, targets).e  # (R, N, d)
    each = list(targets.values())
    closed = [replace(target, beta=math.inf) for target in each]
    plain = [replace(target, beta=0.0, tau=1.0) for target in each]  # the gate is σ(sim)
    return OpenPrompt(
        text=prompt,
        uses=uses,
        closed=keys_and_values(base, e, closed, strategy=strategy),
        outputs=_outputs(base, each, strategy=strategy),
        similarities=torch.logit(edit_of(base, e, plain, strategy=strategy).gate),
    )


def _outputs(base: "BaseModel", targets: list[Target], *, strategy: EditStrategy) -> Tensor:
    """Return o*_K and o*_V of every layer, packed: (J, 2 Σ d_l)."""
    e_super = torch.stack([target.e_super for target in targets])
    o_v = torch.stack([target.o_v for target in targets])
    parts = [
        part for layer in base.layers for part in (strategy.keys(layer, e_super), o_v[:, layer.own])
    ]
    return torch.cat(parts, dim=-1)
