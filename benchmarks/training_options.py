"""What the options of the embedding and of the loss do to a concept.

    python -m benchmarks.training_options
    python -m benchmarks.training_options --rows usual hold_embedding_norm --seeds 0 1 --steps 80

Each row is a training of one tuning subject with other options (ROWS), for each training seed. The
concept is drawn in the eight prompts of benchmarks/taught.py, which no training uses, with one seed
each, and its images are compared with the photos and with the prompts. `length` is the length of
the embedding after the training, divided by its first length. A training of 80 steps of the shipped
model takes one to two minutes on one core.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from benchmarks.paper.methods.perfusion import draw_all
from benchmarks.paper.subjects import TUNED, Subject, photograph
from benchmarks.taught import ALONE, Bench, bench_of, parser_of
from perfusion_core import ConceptUse, train
from perfusion_core.training.trainer import Training

_FIRST_SEED = 7000

CLIPS_RATE = 0.074
"""The embedding's rate that is the same share of the shipped encoder's deviation as 0.006 is of
that of SD 1.5's encoder: 42 %."""

ROWS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "usual": {},
        "hold_embedding_norm": {"hold_embedding_norm": True},
        "min_snr_gamma": {"min_snr_gamma": 5.0},
        "clips-rate": {"embedding_learning_rate": CLIPS_RATE},
        "clips-rate-held": {
            "embedding_learning_rate": CLIPS_RATE,
            "hold_embedding_norm": True,
        },
        "two-words": {},
        "two-words-fitted": {"fit_embedding": True},
    }
)
"""The options of each row. The superclass of the rows with two words has two tokens."""

_SUPERCLASS_OF_TWO_WORDS = "orange cat"


@dataclass(frozen=True)
class Found:
    """The measurements of one training."""

    image: float  # cosine to the photos
    text: float  # cosine to the prompt, with the superclass in the subject's place
    length: float
    gate: float  # mean of the last ten steps
    first_gate: float


def measure(bench: Bench, row: str, subject: Subject, *, seed: int, steps: int) -> Found:
    """Train the subject with the options of `row`, draw its images and compare them."""
    if row.startswith("two-words"):
        subject = replace(subject, superclass=_SUPERCLASS_OF_TWO_WORDS)
    base = bench.base
    photos = photograph(subject, side=base.default_resolution)
    options = {**ROWS[row], "seed": seed, "max_train_steps": steps}
    training = train(
        base, [photo.picture for photo in photos], name="x", superclass=subject.superclass,
        masks=[photo.mask for photo in photos], config=base.defaults.train_config(options),
    )  # fmt: skip
    first = _length(training)
    gates = [step.gate for step in training]
    use = {"x": ConceptUse(training.concept())}
    seeds = [_FIRST_SEED + k for k in range(len(ALONE))]
    images = draw_all(
        base, [prompt.format("a <x>") for prompt in ALONE], seeds, use,
        base.defaults.generate_config(),
    )  # fmt: skip
    return Found(
        image=bench.similarity(images, subject),
        text=bench.text_similarity(images, [prompt.format(subject.phrase) for prompt in ALONE]),
        length=_length(training) / first,
        gate=float(np.mean(gates[-10:])),
        first_gate=gates[0],
    )


def _length(training: Training) -> float:
    return float(torch.cat([each.detach() for each in training.embeddings]).norm())


def table(
    bench: Bench, rows: Sequence[str], subject: Subject, *, seeds: Sequence[int], steps: int
) -> Iterator[str]:
    """Yield the lines of the table, each as soon as it is measured."""
    yield f"| row | {subject.name}: image | text | length | gate, first and last |"
    yield "| --- | --- | --- | --- | --- |"
    for row in rows:
        found = [measure(bench, row, subject, seed=seed, steps=steps) for seed in seeds]
        yield (
            f"| {row} | {_listed([each.image for each in found])} "
            f"| {_listed([each.text for each in found])} "
            f"| {_listed([each.length for each in found], digits=2)} "
            f"| {_listed([each.first_gate for each in found], digits=2)}; "
            f"{_listed([each.gate for each in found], digits=2)} |"
        )


def _listed(values: Sequence[float], digits: int = 3) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the rows and print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=80)
    asked = parser.parse_args(arguments)
    bench = bench_of(asked)
    for line in table(bench, asked.rows, TUNED[0], seeds=asked.seeds, steps=asked.steps):
        print(line, flush=True)


if __name__ == "__main__":
    main()
