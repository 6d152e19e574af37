"""How samplers, their steps and guidance draw plain prompts, and a concept.

    python -m benchmarks.sampling
    python -m benchmarks.sampling --settings ddim:20:4 dpmpp_2m:10:4

Twelve plain prompts and four of a taught cap (a tuning subject), one image each, the same seeds for
every setting. Prints the table of docs/training.md, and how many plain images lie nearest to their
own prompt. The cap is the one of `python -m benchmarks.surroundings --rows ROW`; by default the
base model's own defaults teach it. Results are kept in the same folder. `python -m models.maker
sampling` tells shares of right images by a classifier instead.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch

from benchmarks.paper.subjects import TUNED
from benchmarks.taught import Bench, Row, bench_of, parser_of
from perfusion_core import ConceptUse

PLAIN = (
    "a photo of a dog on the beach",
    "a robot in the snow",
    "a house in the forest",
    "a red car",
    "a cat wearing a crown",
    "an owl next to a tree",
    "a penguin next to a car",
    "a photo of a guitar at night",
    "a painting of a rabbit in the city",
    "a blue cup",
    "a bear and a hat",
    "a photo of a fish",
)
TAUGHT = ("a photo of a {} on the beach", "a {} in the snow", "{} on a red background",
          "a {} next to a tree")  # fmt: skip
SUBJECT = next(subject for subject in TUNED if subject.name == "billed-cap")
_FIRST_PLAIN_SEED, _FIRST_TAUGHT_SEED = 300, 400


@dataclass(frozen=True)
class Setting:
    """How images are sampled."""

    scheduler: str
    steps: int
    guidance: float

    @classmethod
    def read(cls, text: str) -> Self:
        """The setting that SCHEDULER:STEPS:GUIDANCE names."""
        scheduler, steps, guidance = text.split(":")
        return cls(scheduler, int(steps), float(guidance))

    def __str__(self) -> str:
        return f"{self.scheduler}, {self.steps}, {self.guidance:g}"


SETTINGS = (
    *(Setting("ddim", steps, 4.0) for steps in (10, 15, 20, 25)),
    *(Setting("ddim", 20, guidance) for guidance in (2.5, 6.0)),
    *(Setting("dpmpp_2m", steps, 4.0) for steps in (10, 15, 20)),
    *(Setting("unipc", steps, 4.0) for steps in (10, 20)),
    Setting("euler", 20, 4.0),
)


def table(bench: Bench, row: Row, settings: Sequence[Setting], beta: float) -> Iterator[str]:
    """Yield the table's lines, each as soon as it is measured."""
    yield "| scheduler, steps, guidance | plain: text | own prompt | cap: image | cap: text |"
    yield "| --- | --- | --- | --- | --- |"
    use = {SUBJECT.name: ConceptUse(bench.concept(row, SUBJECT), beta)}
    word = f"<{SUBJECT.name}>"
    # Where the prompt has no article, only the superclass's text gets one.
    meant = [
        template.format(SUBJECT.superclass if "a {}" in template else SUBJECT.phrase)
        for template in TAUGHT
    ]
    texts = bench.evaluator.embed_texts(PLAIN)
    for setting in settings:
        options = {
            "scheduler": setting.scheduler,
            "num_inference_steps": setting.steps,
            "guidance_scale": setting.guidance,
        }
        folder = bench.folder.parent / "sampling"
        seeds = [_FIRST_PLAIN_SEED + k for k in range(len(PLAIN))]
        plain = bench.images(folder / f"{setting}.png", PLAIN, seeds, {}, **options)
        taught = bench.images(
            folder / f"{setting}; {row}, beta {beta:g}.png",
            [template.format(word) for template in TAUGHT],
            [_FIRST_TAUGHT_SEED + k for k in range(len(TAUGHT))],
            use,
            **options,
        )
        nearest = (bench.evaluator.embed_images(plain) @ texts.T).argmax(1)
        own = int((nearest == torch.arange(len(PLAIN))).sum())
        yield (
            f"| {setting} | {bench.text_similarity(plain, PLAIN):.3f} | {own} of {len(PLAIN)} "
            f"| {bench.similarity(taught, SUBJECT):.3f} "
            f"| {bench.text_similarity(taught, meant):.3f} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, and print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--row", type=Row.read, metavar="WEIGHT:RATE:STEPS[:articles]")
    parser.add_argument(
        "--settings", type=Setting.read, nargs="+", default=SETTINGS,
        metavar="SCHEDULER:STEPS:GUIDANCE",
    )  # fmt: skip
    asked = parser.parse_args(arguments)
    bench = bench_of(asked)
    for line in table(bench, asked.row or Row.usual(bench.base), asked.settings, asked.beta):
        print(line, flush=True)


if __name__ == "__main__":
    main()
