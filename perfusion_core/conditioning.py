"""From a prompt and its concepts to the Keys and Values of every cross-attention layer.

Keys and Values depend on neither latents nor timestep: they are computed once per prompt, and
every denoising step reads them. Training calls the same functions, with gradients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfusion_core.concept import Concept
from perfusion_core.config import Gates, Locking
from perfusion_core.errors import PromptError
from perfusion_core.evaluation.curve import recommended_strength
from perfusion_core.rank_one import decompose
from perfusion_core.strength import DEFAULT_TAU, default_beta
from perfusion_core.text.encoders import Encoding, Replacement
from perfusion_core.text.prompt import Prompt, parse
from perfusion_core.text.templates import FORMAT_1_TEMPLATES, TEMPLATES
from perfusion_core.text.tokenization import Tokens, tokenise

if TYPE_CHECKING:
    from perfusion_core.base_model import BaseModel


@dataclass(frozen=True)
class ConceptUse:
    """A concept with its gate: bias β and temperature τ (METHOD 6).

    Without a `beta` the gate is the usual one: what the concept's own curve recommends, or what
    `strength.default_beta` says of the locking.
    """

    concept: Concept
    beta: float | None = None
    tau: float = DEFAULT_TAU

    def bias(self, locking: Locking) -> float:
        """The bias β with this locking."""
        if self.beta is not None:
            return self.beta
        curve = self.concept.curve
        return default_beta(
            locking, recommended_strength=recommended_strength(curve) if curve else None
        )


@dataclass(frozen=True)
class Target:
    """One concept as tensors, as the edit takes it: in training some carry gradients."""

    superclass: str
    embeddings: tuple[Tensor, ...]  # one per text encoder
    i_star: Tensor  # (d,)
    e_super: Tensor  # (d,)
    o_v: Tensor  # (Σ d_l,)
    beta: float
    tau: float


@dataclass(frozen=True)
class Conditioning:
    """What one prompt gives the U-Net: packed Keys and Values, and SDXL's pooled embedding."""

    packed: Tensor  # (N, 2 Σ d_l), in the U-Net's dtype
    pooled: Tensor | None  # (p,)


@dataclass(frozen=True)
class Plain:
    """What prompts give the frozen U-Net with superclasses written in their concepts' places."""

    packed: Tensor  # (P, N, 2 Σ d_l)
    pooled: Tensor | None  # (P, p)


@torch.no_grad()
def condition(
    base: "BaseModel",
    prompt: str,
    *,
    concepts: Mapping[str, ConceptUse] | None = None,
    locking: Locking = "local",
    gates: Gates = "apart",
) -> Conditioning:
    """Compute the Keys and Values of `prompt`, whose placeholders name `concepts`.

    Every concept given takes part in the edit, also of a prompt that does not name it (the
    negative prompt), where its gates are near 0. Raises PromptError for a placeholder without a
    concept, and what the concept's check against the base model raises.
    """
    concepts = concepts or {}
    parsed = parse(prompt)
    unknown = [name for name in parsed.names if name not in concepts]
    if unknown:
        raise PromptError(f"The prompt names <{unknown[0]}>, but no such concept was given.")
    targets = {name: target_of(base, use, locking) for name, use in concepts.items()}
    tokens = tokens_of(base, [parsed], targets)
    encoding = encode(base, tokens, targets)
    keys_from: Tensor | None = None
    if locking == "global" and targets:
        keys_from = _written_out(base, tokens)[:, tokens[0][0].sources]
        for place, name in _beyond_the_written(tokens[0][0]):
            keys_from[0, place] = targets[name].e_super
    packed = keys_and_values(
        base, encoding.e, list(targets.values()), keys_from=keys_from, gates=gates
    )
    pooled = None if encoding.pooled is None else encoding.pooled[0]
    return Conditioning(packed=packed[0].to(base.dtype), pooled=pooled)


def keys_and_values(
    base: "BaseModel",
    e: Tensor,
    targets: Sequence[Target],
    *,
    keys_from: Tensor | None = None,
    gates: Gates = "apart",
) -> Tensor:
    """The edit of every layer's Key and Value projection, packed: (B, N, d) -> (B, N, 2 Σ d_l).

    Keys: o*_K = W_K e_super, locked (METHOD 4); with `keys_from` (B, N, d) (global locking) they
    are the plain projections of those encodings instead. Values: o*_V. With `gates="published"`
    the gates are equation (3)'s to the letter (docs/decisions/0007).
    """
    if not targets:
        return torch.cat([e.to(W) @ W.T for layer in base.layers for W in (layer.W_K, layer.W_V)],
                         dim=-1)  # fmt: skip
    edit = decompose(
        e,
        torch.stack([target.i_star for target in targets]),
        metric=base.covariance.metric,
        # Filled there rather than copied to it: a copy would wait for the device.
        beta=torch.stack([torch.full((), target.beta, device=e.device) for target in targets]),
        tau=torch.stack([torch.full((), target.tau, device=e.device) for target in targets]),
        apart=gates == "apart",
    )
    e_super = torch.stack([target.e_super for target in targets])  # (J, d)
    o_v = torch.stack([target.o_v for target in targets])  # (J, Σ d_l)
    parts: list[Tensor] = []
    for layer in base.layers:
        W_K, W_V = layer.W_K.float(), layer.W_V.float()
        parts.append(
            edit.apply(W_K, e_super.to(W_K) @ W_K.T)
            if keys_from is None
            else keys_from.to(W_K) @ W_K.T
        )  # (B, N, d_l)
        parts.append(edit.apply(W_V, o_v[:, layer.own]))  # (B, N, d_l)
    return torch.cat(parts, dim=-1)


def target_of(base: "BaseModel", use: ConceptUse, locking: Locking = "local") -> Target:
    """A stored concept as tensors on the base model's device; checks that it fits the model."""
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


@torch.no_grad()
def superclass_encoding(
    base: "BaseModel", superclass: str, *, templates: tuple[str, ...] = TEMPLATES
) -> Tensor:
    """e_super (d,): the encoding of the superclass, averaged over the training prompts.

    Where a superclass is several tokens, the encoding of its last token is taken: it is the one
    that has read the whole phrase. Computed once per base model, superclass and templates.
    """
    known = base.superclass_encodings.get((superclass, templates))
    if known is None:
        tokens = _in_templates(base, superclass, templates)
        e = _written_out(base, tokens)  # (T, N, d)
        # sources maps a placeholder to the last token of the superclass written in its place
        places = [row.sources[row.places[0][0]] for row in tokens[0]]
        known = torch.stack([e[k, place] for k, place in enumerate(places)]).mean(0)
        base.superclass_encodings[superclass, templates] = known
    return known


@torch.no_grad()
def placeholder_encoding(
    base: "BaseModel", superclass: str, embeddings: tuple[Tensor, ...]
) -> Tensor:
    """The encoding (d,) of a placeholder with these word embeddings, one per text encoder.

    It is averaged over the training prompts, as e_super is. With the embedding of a superclass of
    one token it equals e_super; of several tokens the placeholder holds the last one alone.
    """
    tokens = _in_templates(base, superclass, TEMPLATES)
    places = [row.places[0][0] for row in tokens[0]]
    replacements = [Replacement(k, place, embeddings) for k, place in enumerate(places)]
    e = base.text.encode([[row.ids for row in rows] for rows in tokens], replacements).e
    return torch.stack([e[k, place] for k, place in enumerate(places)]).mean(0)


@torch.no_grad()
def plain(base: "BaseModel", tokens: Sequence[Sequence[Tokens]]) -> Plain:
    """The unedited Keys and Values of tokenised prompts with their superclasses written out."""
    encoding = base.text.encode([[row.written for row in rows] for rows in tokens])
    return Plain(packed=keys_and_values(base, encoding.e, []), pooled=encoding.pooled)


def tokens_of(
    base: "BaseModel", prompts: Sequence[Prompt], targets: Mapping[str, Target]
) -> list[list[Tokens]]:
    """Tokenised prompts, indexed [text encoder][row]."""
    superclasses = {name: target.superclass for name, target in targets.items()}
    return [
        [tokenise(tokenizer, prompt, superclasses=superclasses) for prompt in prompts]
        for tokenizer in base.tokenizers
    ]


def encode(
    base: "BaseModel", tokens: Sequence[Sequence[Tokens]], targets: Mapping[str, Target]
) -> Encoding:
    """Encode tokenised prompts, each placeholder with its concept's own word embedding."""
    replacements = [
        Replacement(row=row, position=position, embeddings=targets[name].embeddings)
        for row, token in enumerate(tokens[0])
        for position, name in token.places
    ]
    return base.text.encode([[row.ids for row in rows] for rows in tokens], replacements)


def _written_out(base: "BaseModel", tokens: Sequence[Sequence[Tokens]]) -> Tensor:
    """Encodings (B, N, d) of tokenised prompts with their superclasses written out."""
    return base.text.encode([[row.written for row in rows] for rows in tokens]).e


def _in_templates(
    base: "BaseModel", superclass: str, templates: tuple[str, ...]
) -> list[list[Tokens]]:
    """The templates with the placeholder <x> of a superclass, indexed [text encoder][template]."""
    prompts = [parse(template.format("<x>")) for template in templates]
    return [
        [tokenise(tokenizer, prompt, superclasses={"x": superclass}) for prompt in prompts]
        for tokenizer in base.tokenizers
    ]


def _beyond_the_written(tokens: Tokens) -> list[tuple[int, str]]:
    """The places, with names, of concepts that the prompt with superclasses written out cuts off.

    It is longer, where a superclass is several tokens. Its last position holds an end token.
    """
    last = len(tokens.written) - 1
    return [(place, name) for place, name in tokens.places if tokens.sources[place] == last]
