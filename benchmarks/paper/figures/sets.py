"""Which subjects are composed, and in which prompts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.paper.methods.ablations import REMOVED_ONE_BY_ONE
from benchmarks.paper.subjects import REPORTED, TUNED, Subject
from perfusion_core.edit_strategy import APART, PUBLISHED, EditStrategy

_BY_SIDE = ("a photo of a {} next to a {}", "a photo of a {} next to a {} on the beach")
_PAINTED = ("a painting of a {} and a {}", "a painting of a {} next to a {} in the city")
_WEARING = ("a photo of a {} wearing a {}", "a {} wearing a {} on the beach")
_THREE = ("a photo of a {} and a {} and a {}",)
_WORN = ("hat", "crown", "scarf")

PAIRS = "two concepts"
BETAS_OF_PAIRS = (0.9, 0.7, 0.5, 0.3)
"""The biases at which pairs are drawn next to their recommended strengths."""


@dataclass(frozen=True)
class Set:
    """One kind of composition: `prompts` have "{}" for each subject, without its article."""

    title: str
    subjects: Sequence[Sequence[Subject]]
    prompts: Sequence[str]
    strategy: EditStrategy = APART
    has_baselines: bool = False
    beta: float | None = None  # of all concepts; None: each at its recommended strength
    boxed: bool = False  # each subject is painted into a box of a drawn place


def pairs_at(beta: float) -> str:
    """Return the title of the pairs at one bias."""
    return f"{PAIRS} at bias {beta:g}"


def sets_of(subjects: Sequence[Subject]) -> Iterator[Set]:
    """Yield the compositions of subjects: neighbours on the list, and what wears what."""
    ring = [*subjects, *subjects]
    count = len(subjects)
    pairs = [tuple(ring[k : k + 2]) for k in range(count if count > 2 else 1)]
    triples = [tuple(ring[k : k + 3]) for k in range(min(count, 8))] if count > 3 else []
    worn = [
        (wearer, garment)
        for garment in subjects
        for wearer in subjects
        if garment.superclass in _WORN and wearer.wearer
    ]
    # One set, so that Custom Diffusion learns each pair once for both.
    yield Set(PAIRS, pairs, (*_BY_SIDE, *_PAINTED), has_baselines=True)
    for beta in BETAS_OF_PAIRS:
        yield Set(pairs_at(beta), pairs, _BY_SIDE, beta=beta)
    yield Set(f"{PAIRS}, boxed", pairs, _BY_SIDE[1:], boxed=True)
    if worn:
        yield Set("two concepts, interacting", worn, _WEARING, has_baselines=True)
    if triples:
        yield Set("three concepts", triples, _THREE, has_baselines=True)


def similar_sets() -> Iterator[Set]:
    """Yield compositions of two subjects of one superclass, by each way to keep them apart."""
    pairs = [
        (reported, tuned)
        for tuned in TUNED
        for reported in REPORTED
        if reported.superclass == tuned.superclass
    ]
    yield Set("two of a kind", pairs, _BY_SIDE)
    yield Set("two of a kind, removed one by one", pairs, _BY_SIDE, REMOVED_ONE_BY_ONE)
    yield Set("two of a kind, published gates", pairs, _BY_SIDE, PUBLISHED)
