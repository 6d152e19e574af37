"""Computes the Keys and Values of every cross-attention layer from a prompt and its concepts.

Keys and Values depend on neither latents nor timestep. So Keys and Values are computed once per
prompt, and every denoising step uses them. Training calls the functions of this module with
gradients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_core.concept import Concept
from perfusion_core.config import Locking
from perfusion_core.edit_strategy import APART, EditStrategy
from perfusion_core.encodings import superclass_encoding
from perfusion_core.errors import PromptError
from perfusion_core.evaluation.curve import recommended_strength
from perfusion_core.rank_one import Decomposition
from perfusion_core.strength import DEFAULT_TAU, default_beta
from perfusion_core.text.encoders import Encoding, Replacement
from perfusion_core.text.prompt import Prompt, parse
from perfusion_core.text.templates import FORMAT_1_TEMPLATES
from perfusion_core.text.tokenization import Tokens, tokenise

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@dataclass(frozen=True)
class ConceptUse:
    """A concept with its gate: bias β and temperature τ (METHOD 6).

    Without a `beta` the gate has the default bias: the bias that the concept's own curve
    recommends, or else the default of the locking (`strength.default_beta`).
    """

    concept: Concept
    beta: float | None = None
    tau: float = DEFAULT_TAU

    def bias(self, locking: Locking) -> float:
        """Return the gate's bias β that applies with the given locking."""
        if self.beta is not None:
            return self.beta
        curve = self.concept.curve
        return default_beta(
            locking, recommended_strength=recommended_strength(curve) if curve else None
        )


@dataclass(frozen=True)
class Target:
    """One concept as tensors, the input of the edit. In training some tensors carry gradients."""

    superclass: str
    embeddings: tuple[Tensor, ...]  # one per text encoder
    i_star: Tensor  # (d,)
    e_super: Tensor  # (d,)
    o_v: Tensor  # (Σ d_l,)
    beta: float
    tau: float


@dataclass(frozen=True)
class Conditioning:
    """The U-Net's input for one prompt: packed Keys and Values, and SDXL's pooled embedding."""

    packed: Tensor  # (N, 2 Σ d_l), in the U-Net's dtype
    pooled: Tensor | None  # (p,)


@dataclass(frozen=True)
class Plain:
    """The frozen U-Net's input for prompts in which superclasses replace their concepts."""

    packed: Tensor  # (P, N, 2 Σ d_l)
    pooled: Tensor | None  # (P, p)


@torch.no_grad()
def condition(
    base: "BaseModel",
    prompt: str,
    *,
    concepts: Mapping[str, ConceptUse] | None = None,
    locking: Locking = "local",
    strategy: EditStrategy = APART,
) -> Conditioning:
    """Compute the Keys and Values of `prompt`, whose placeholders name `concepts`.

    All given concepts take part in the edit. The gates of a concept are near 0 in a prompt that
    does not name the concept, such as the negative prompt. Raises PromptError for a placeholder
    without a concept, and the errors of `BaseModel.check` for a concept that does not fit.
    """
    concepts = concepts or {}
    parsed = parse(prompt)
    unknown = [name for name in parsed.names if name not in concepts]
    if unknown:
        raise PromptError(f"The prompt names <{unknown[0]}>, but no such concept was given.")
    targets = {name: target_of(base, use, locking) for name, use in concepts.items()}
    tokens = tokens_of(base, [parsed], targets)
    encoding = encode(base, tokens, targets)
    pooled = encoding.pooled
    keys_from: Tensor | None = None
    if locking == "global" and targets:
        written = _written_out(base, tokens)
        # Under global locking the Values alone carry the concept. SDXL's pooled vector enters the
        # U-Net besides Keys and Values, where no gate would limit it.
        pooled = written.pooled
        keys_from = written.e[:, tokens[0][0].sources]
        for place, name in _beyond_the_written(tokens[0][0]):
            keys_from[0, place] = targets[name].e_super
    packed = keys_and_values(
        base, encoding.e, list(targets.values()), keys_from=keys_from, strategy=strategy
    )
    return Conditioning(
        packed=packed[0].to(base.dtype), pooled=None if pooled is None else pooled[0]
    )


def without_prompt(other: Conditioning) -> Conditioning:
    """Return the conditioning of zero encodings, of the shapes of `other`.

    Projections have no bias, so zero encodings have zero Keys and Values.
    """
    pooled = other.pooled
    return Conditioning(
        packed=torch.zeros_like(other.packed),
        pooled=None if pooled is None else torch.zeros_like(pooled),
    )


def target_of(base: "BaseModel", use: ConceptUse, locking: Locking = "local") -> Target:
    """Check that a stored concept fits the base model; return its tensors on the model's device."""
    concept = use.concept
    base.check(concept)

    def tensor(array: object) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=base.device)

    return Target(
        superclass=concept.superclass,
        embeddings=tuple(tensor(vector) for vector in concept.embeddings),
        i_star=tensor(concept.i_star),
        e_super=(
            superclass_encoding(base, concept.superclass, templates=FORMAT_1_TEMPLATES)
            if concept.e_super is None
            else tensor(concept.e_super)
        ),
        o_v=tensor(concept.o_v),
        beta=use.bias(locking),
        tau=use.tau,
    )


def tokens_of(
    base: "BaseModel", prompts: Sequence[Prompt], targets: Mapping[str, Target]
) -> list[list[Tokens]]:
    """Tokenise prompts; the result is indexed [text encoder][row]."""
    superclasses = {name: target.superclass for name, target in targets.items()}
    return [
        [tokenise(tokenizer, prompt, superclasses=superclasses) for prompt in prompts]
        for tokenizer in base.tokenizers
    ]


def encode(
    base: "BaseModel", tokens: Sequence[Sequence[Tokens]], targets: Mapping[str, Target]
) -> Encoding:
    """Encode tokenised prompts, with the concept's own word embedding for each placeholder."""
    replacements = [
        Replacement(row=row, position=position, embeddings=targets[name].embeddings)
        for row, token in enumerate(tokens[0])
        for position, name in token.places
    ]
    return base.text.encode([[row.ids for row in rows] for rows in tokens], replacements)


def keys_and_values(
    base: "BaseModel",
    e: Tensor,
    targets: Sequence[Target],
    *,
    keys_from: Tensor | None = None,
    strategy: EditStrategy = APART,
) -> Tensor:
    """Edit every layer's Key and Value projection, packed: (B, N, d) -> (B, N, 2 Σ d_l).

    The Keys use the strategy's o*_K, which is locked to `W_K e_super` by default (METHOD 4). With
    `keys_from` (B, N, d) (global locking) the Keys are instead the plain projections of
    `keys_from`. The Values use o*_V. The result has the precision of the projections, but at least
    float32.
    """
    if not targets:
        return torch.cat([e.to(W) @ W.T for layer in base.layers for W in (layer.W_K, layer.W_V)],
                         dim=-1)  # fmt: skip
    precision = torch.promote_types(base.dtype, torch.float32)
    edit = edit_of(base, e.to(precision), targets, strategy=strategy)
    e_super = torch.stack([target.e_super for target in targets]).to(precision)  # (J, d)
    o_v = torch.stack([target.o_v for target in targets])  # (J, Σ d_l)
    parts: list[Tensor] = []
    for layer in (layer.to(precision) for layer in base.layers):
        parts.append(
            edit.apply(layer.W_K, strategy.keys(layer, e_super))
            if keys_from is None
            else keys_from.to(precision) @ layer.W_K.T
        )  # (B, N, d_l)
        parts.append(edit.apply(layer.W_V, o_v[:, layer.own]))  # (B, N, d_l)
    return torch.cat(parts, dim=-1)


def edit_of(
    base: "BaseModel", e: Tensor, targets: Sequence[Target], *, strategy: EditStrategy = APART
) -> Decomposition:
    """Return the concepts' gates at encodings (..., N, d), and the part orthogonal to all i*."""
    return strategy.decompose(
        e,
        torch.stack([target.i_star for target in targets]),
        metric=base.covariance.metric,
        # The tensor is filled on the device, since a copy from the CPU would wait for the device.
        beta=torch.stack([e.new_full((), target.beta) for target in targets]),
        tau=torch.stack([e.new_full((), target.tau) for target in targets]),
    )


@torch.no_grad()
def plain_keys_and_values(base: "BaseModel", ids: Sequence[Sequence[Sequence[int]]]) -> Plain:
    """Return the unedited Keys and Values of token ids, [text encoder][prompt][position]."""
    encoding = base.text.encode(ids)
    return Plain(packed=keys_and_values(base, encoding.e, []), pooled=encoding.pooled)


def added_conditions(
    pooled: Tensor | None, *, width: int, height: int, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return SDXL's inputs beyond Keys and Values; an empty dict for other families.

    The inputs are the pooled text embeddings (B, p), and for each of the B rows the original size,
    the crop (none) and the target size in pixels.
    """
    if pooled is None:
        return {}
    sizes = torch.tensor([[height, width, 0, 0, height, width]], device=pooled.device)
    return {"text_embeds": pooled.to(dtype), "time_ids": sizes.expand(len(pooled), -1).to(dtype)}


def _written_out(base: "BaseModel", tokens: Sequence[Sequence[Tokens]]) -> Encoding:
    """Return the encoding of tokenised prompts with their superclasses written out."""
    return base.text.encode([[row.written for row in rows] for rows in tokens])


def _beyond_the_written(tokens: Tokens) -> list[tuple[int, str]]:
    """Return the places and names of the concepts that writing out superclasses cuts off.

    The written-out prompt is longer if a superclass is several tokens, and the last position of the
    written-out prompt is an end token.
    """
    last = len(tokens.written) - 1
    return [(place, name) for place, name in tokens.places if tokens.sources[place] == last]
