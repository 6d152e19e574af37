"""How trainings change what surrounds their object, and what keeping it costs the object.

    python -m benchmarks.surroundings                      # the base model's own defaults
    python -m benchmarks.surroundings --rows 0:0.1:80:articles 3:0.1:80 10:0.1:160
    python -m benchmarks.surroundings --rows 10:0.1:160 --beta 0.4 --pairs robot+penguin

A row is a training's background_weight, learning_rate and steps; with `articles` its training
prompts are those with an article alone. Every subject of the pairs is taught once for each row,
with seed 0, and drawn alone in eight prompts that no training uses, at a bias β; then the pairs are
drawn together, eight seeds each. Prints the table of docs/training.md and one of the pairs, and
writes a sheet of the pairs. Concepts and images are kept (benchmarks/taught.py), so a stopped run
goes on where it was. A training of the shipped model takes some minutes on a CPU.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from benchmarks.paper.figures.sheets import write_rows
from benchmarks.paper.subjects import REPORTED, TUNED, Subject
from benchmarks.taught import BESIDE, Bench, Pair, Row, bench_of, parser_of

# Tuning subjects: options are chosen on no others.
_PAIRS = (
    "cat-face+sport-utility-vehicle",
    "sport-utility-vehicle+billed-cap",
    "billed-cap+cat-face",
)
_LABEL_LETTERS = 17  # a line of a sheet's label


def subjects_of(pairs: Sequence[Pair]) -> list[Subject]:
    """Return every subject of the pairs once, by name."""
    return sorted({subject for pair in pairs for subject in pair}, key=lambda subject: subject.name)


def table_of_rows(
    bench: Bench, rows: Sequence[Row | None], pairs: Sequence[Pair], beta: float
) -> Iterator[str]:
    """Yield the lines of the first table, each as soon as it is measured."""
    subjects = subjects_of(pairs)
    names = ", ".join(subject.name for subject in subjects)
    together = ", ".join(f"{first.name} and {second.name}" for first, second in pairs)
    yield (
        f"| weight, rate, steps | image: {names} | text: {names} | scene: {names} "
        f"| roughness: {together} |"
    )
    yield "| --- | --- | --- | --- | --- |"
    for row in rows:
        alone = [bench.alone(row, subject, beta) for subject in subjects]
        rough = [bench.beside(row, pair, BESIDE[0], beta).roughness for pair in pairs]
        yield (
            f"| {row or 'plain superclass'} | {_listed([found.image for found in alone])} "
            f"| {_listed([found.text for found in alone])} "
            f"| {_listed([found.scene for found in alone])} "
            f"| {_listed(rough, digits=2)} |"
        )


def table_of_pairs(
    bench: Bench, rows: Sequence[Row | None], pairs: Sequence[Pair], beta: float
) -> Iterator[str]:
    """Yield the lines of the second table: both forms of each pair, row by row."""
    yield "| prompt | weight, rate, steps | image of each | text | roughness |"
    yield "| --- | --- | --- | --- | --- |"
    for pair in pairs:
        for form in BESIDE:
            for row in rows:
                found = bench.beside(row, pair, form, beta)
                yield (
                    f"| `{form.format(*(f'<{subject.name}>' for subject in pair))}` "
                    f"| {row or 'plain superclass'} | {_listed([found.first, found.second])} "
                    f"| {found.text:.3f} | {found.roughness:.2f} |"
                )


def write_sheet(
    bench: Bench, rows: Sequence[Row | None], pairs: Sequence[Pair], beta: float, file: Path
) -> None:
    """Write all images of the pairs to `file`."""
    shown = {}
    for pair in pairs:
        for form in BESIDE:
            for row in rows:
                label = f"{form.format(*(subject.name for subject in pair))}: {row or 'plain'}"
                images = bench.draw_beside(row, pair, form, beta)
                shown["\n".join(wrap(label, _LABEL_LETTERS))] = images
    write_rows(shown, [], file)


def _listed(values: Sequence[float], digits: int = 3) -> str:
    return ", ".join(f"{value:.{digits}f}" for value in values)


def _pair(text: str) -> Pair:
    known = {subject.name: subject for subject in (*REPORTED, *TUNED)}
    first, second = text.split("+")
    return known[first], known[second]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, and print the tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=Row.read, nargs="+", metavar="WEIGHT:RATE:STEPS[:articles]")
    parser.add_argument(
        "--pairs", type=_pair, nargs="+", default=[_pair(names) for names in _PAIRS]
    )
    asked = parser.parse_args(arguments)
    bench = bench_of(asked)
    rows: list[Row | None] = [None, *(asked.rows or [Row.usual(bench.base)])]
    for table in (table_of_rows, table_of_pairs):
        for line in table(bench, rows, asked.pairs, asked.beta):
            print(line, flush=True)
        print()
    sheet = bench.folder / f"pairs, beta {asked.beta:g}.webp"
    write_sheet(bench, rows, asked.pairs, asked.beta, sheet)
    print(f"Pairs, plain first: {sheet}")


if __name__ == "__main__":
    main()
