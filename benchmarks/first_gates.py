"""How far the gate of a new concept is open before the first step, on CLIP's real vocabulary.

    python -m benchmarks.first_gates
    python -m benchmarks.first_gates --count 20 --captions 300

The text encoder has CLIP-L's shape (768 wide, 12 layers, 12 heads) and random weights; C is its
own. For each superclass of one to three words the placeholder starts as a training starts it, and
i* is its encoding averaged over the templates. Prints the mean gate over the templates at β = 0.75
and τ = 0.1: 0.924 is a gate at similarity 1. Superclasses below `--least` are listed with their
similarities. With `--whole` i* is instead e_super, the encoding of the whole superclass. 200
superclasses take about five minutes on one core.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from benchmarks.shapes import pipeline
from perfusion_core import BaseModel
from perfusion_core.config import TrainConfig
from perfusion_core.encodings import superclass_encoding
from perfusion_core.rank_one import decompose
from perfusion_core.text.clip_tokenizer import clip_tokenizer
from perfusion_core.text.templates import TEMPLATES
from perfusion_core.text.tokenization import superclass_ids
from perfusion_core.text.training_prompts import TrainingPrompts
from perfusion_core.training.embeddings import start_embeddings

_NOUNS = """
dog cat teddy backpack mug plushie vase sneaker sofa teapot robot dragon castle lantern corgi tabby
axolotl penguin owl clock guitar candle necklace scooter cactus dinosaur spaceship hedgehog figurine
kettle armchair suitcase umbrella typewriter motorcycle lighthouse violin goldfish chihuahua doll
""".split()
_FIRST = """
stuffed ceramic vintage wooden little plush crocheted inflatable
""".split()
_SECOND = """
golden striped handmade teddy bobblehead retro
""".split()

READ_POSITIONS = 24
"""Positions that are encoded for a gate. A text encoder is causal, so what comes after the
placeholder does not change its encoding."""


def superclasses() -> Iterator[str]:
    """Yield superclasses of one, two and three words, in turns."""
    for round_number in range(len(_SECOND)):
        for k, noun in enumerate(_NOUNS):
            first = _FIRST[(k + round_number) % len(_FIRST)]
            if round_number == 0:
                yield noun
            yield f"{first} {noun}"
            yield f"{_SECOND[(k + round_number) % len(_SECOND)]} {first} {noun}"


@dataclass(frozen=True)
class FirstGate:
    """The gates of one superclass over the templates."""

    superclass: str
    tokens: int
    mean: float
    least: float
    similarities: tuple[float, float]  # least and largest


def clip_shaped(caption_count: int) -> BaseModel:
    """Return a base model with CLIP-L's shape and vocabulary, random weights and its own C."""
    torch.manual_seed(0)
    made = pipeline("clip")
    made.tokenizer = clip_tokenizer()
    base = BaseModel.from_pipeline(made, name="clip-l-shape", device="cpu")
    base.estimate_covariance(count=caption_count)
    return base


@torch.no_grad()
def first_gate(base: BaseModel, superclass: str, *, whole: bool = False) -> FirstGate:
    """Return the gates of a new concept at its own encodings, one for each template."""
    prompts = TrainingPrompts.of(base.tokenizers, TEMPLATES, superclass=superclass)
    embeddings = start_embeddings(base, prompts, superclass=superclass)
    read = [[row[:READ_POSITIONS] for row in rows] for rows in prompts.ids]
    e = prompts.at_concept(base.text.encode(read, prompts.replacements(embeddings)).e)  # (P, d)
    i_star = superclass_encoding(base, superclass) if whole else e.mean(0)
    config = TrainConfig()
    beta, tau = torch.tensor([config.beta]), torch.tensor([config.tau])
    edit = decompose(e, i_star[None], metric=base.covariance.metric, beta=beta, tau=tau)
    gates = edit.gate[:, 0]  # (P,)
    similarities = torch.logit(gates.double()) * config.tau + config.beta
    return FirstGate(
        superclass=superclass,
        tokens=len(superclass_ids(base.tokenizers[0], superclass)),
        mean=float(gates.mean()),
        least=float(gates.min()),
        similarities=(float(similarities.min()), float(similarities.max())),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the gates and print those that are too low, and a summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--captions", type=int, default=1000)
    parser.add_argument("--least", type=float, default=0.8)
    parser.add_argument("--whole", action="store_true", help="i* = e_super")
    asked = parser.parse_args(arguments)
    base = clip_shaped(asked.captions)
    print(f"condition number of C: {base.covariance.condition_number:.0f}", flush=True)
    found = []
    for superclass in islice(superclasses(), asked.count):
        gate = first_gate(base, superclass, whole=asked.whole)
        found.append(gate)
        if gate.mean < asked.least:
            low, high = gate.similarities
            print(
                f"{superclass} ({gate.tokens} tokens): {gate.mean:.3f}, similarities {low:.2f} to "
                f"{high:.2f}", flush=True,
            )  # fmt: skip
    for tokens in sorted({gate.tokens for gate in found}):
        means = [gate.mean for gate in found if gate.tokens == tokens]
        print(f"{tokens} tokens: {len(means)} superclasses, {min(means):.3f} to {max(means):.3f}")
    below = sum(gate.mean < asked.least for gate in found)
    print(f"{below} of {len(found)} below {asked.least}; lowest {min(g.mean for g in found):.3f}")


if __name__ == "__main__":
    main()
