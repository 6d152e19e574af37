"""Edits by the shipped model: whether subjects are recognised, company, and a large photo's time.

    python -m benchmarks.editing recognition [--subjects NAME ...]
                                         [--concepts FOLDER] [--results FOLDER]
    python -m benchmarks.editing company
    python -m benchmarks.editing photo [--rounds N] [--concept FILE]

`company` samples edits and generations alone and in one batch. `photo` times sampling next to a
plain image's, and decoding, blending and encoding apart, in interleaved rounds; with a concept the
edit keeps the background.
"""

import argparse
from pathlib import Path

from benchmarks.editing import photo, recognition
from benchmarks.paper.kept import EVALUATOR, RESULTS
from benchmarks.paper.methods.method import BASE_FOLDER
from benchmarks.paper.subjects import REPORTED
from benchmarks.taught import CONCEPTS
from perfusion_core import BaseModel, Concept
from perfusion_core.evaluators.similarity import Evaluator


def main() -> None:
    """Run one of the benchmarks and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    recognised = kinds.add_parser("recognition")
    names = [subject.name for subject in REPORTED]
    recognised.add_argument("--subjects", nargs="*", choices=names, default=names)
    recognised.add_argument("--results", type=Path, default=RESULTS / "editing")
    recognised.add_argument("--concepts", type=Path, default=CONCEPTS)
    kinds.add_parser("company")
    timed = kinds.add_parser("photo")
    timed.add_argument("--rounds", type=int, default=5)
    timed.add_argument("--concept", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    base = BaseModel.load(BASE_FOLDER)
    if arguments.kind == "recognition":
        recognition.recognise(
            base, Evaluator(EVALUATOR), arguments.subjects,
            concepts=arguments.concepts, folder=arguments.results,
        )  # fmt: skip
    elif arguments.kind == "company":
        photo.compare_company(base)
    else:
        concept = Concept.load(arguments.concept) if arguments.concept else None
        photo.time_photo(base, arguments.rounds, concept=concept)


if __name__ == "__main__":
    main()
