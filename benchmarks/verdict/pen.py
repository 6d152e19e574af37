"""Whether subjects that are drawn with a pen are recognised after their training.

    python -m benchmarks.verdict.pen            # 16 subjects, 8 images of each; 25 minutes
    python -m benchmarks.verdict.pen --count    # counts what a viewer wrote into answers.json

Subjects are taught as the product teaches, from five photos, and drawn at the strength that their
own curves recommend. No image is chosen. EfficientNet-Lite2 and the shipped evaluator give each
image to the subject whose five photos are nearest.

For people, the folder of results has sheets of shuffled images and of the photos
(benchmarks/paper/figures/eyes.py). A viewer writes for each numbered image the name of the photo
whose object it shows into answers.json, a list. Concepts and images are kept, so a stopped run goes
on.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.paper import contact
from benchmarks.paper.figures.eyes import KEY, write_shuffled
from benchmarks.paper.figures.sheets import write_rows
from benchmarks.paper.kept import EVALUATOR, RESULTS, kept_name
from benchmarks.paper.measures import count_nearest
from benchmarks.paper.methods.method import BASE_FOLDER
from benchmarks.paper.methods.perfusion import draw_all
from benchmarks.paper.outside import features
from benchmarks.paper.subjects import DRAWN_BY_PEN, Subject, photograph
from benchmarks.taught import teach
from perfusion_core import BaseModel, ConceptUse
from perfusion_core.evaluators.similarity import Evaluator

_PROMPTS = ("a photo of <{}>", "<{}> on the beach")
_SEEDS = (100, 101, 102, 103)
_ANSWERS = "answers.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw what is missing, print what the networks recognise, and write the sheets."""
    names = [subject.name for subject in DRAWN_BY_PEN]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--subjects", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--results", type=Path, default=RESULTS / "pen", metavar="FOLDER")
    asked = parser.parse_args(arguments)
    base, evaluator = BaseModel.load(BASE_FOLDER), Evaluator(EVALUATOR)
    folder = asked.results / kept_name(base, evaluator)
    if asked.count:
        try:
            print(counted(folder))
        except FileNotFoundError as error:
            parser.error(f"{error.filename} is missing: draw without --count, then answer.")
        except ValueError as error:
            parser.error(str(error))
        return
    subjects = [subject for subject in DRAWN_BY_PEN if subject.name in asked.subjects]
    for subject in subjects:
        _draw(base, evaluator, subject, folder)
        print(f"{subject.name}: drawn", flush=True)
    side = base.default_resolution
    photos = {s.name: [p.picture for p in photograph(s, side=side)] for s in subjects}
    count = len(_PROMPTS) * len(_SEEDS)
    images = [
        (name, contact.cut(folder / f"{name}.png", 0, k)) for name in photos for k in range(count)
    ]
    for judge, embed in (
        ("EfficientNet-Lite2", features),
        ("the evaluator", evaluator.embed_images),
    ):
        known = {name: embed(own) for name, own in photos.items()}
        seen = embed([image for _, image in images])
        right = count_nearest(seen, known, [name for name, _ in images])
        print(f"{judge} gives {right} of {len(images)} images to the right photos.")
    write_shuffled(images, {name: own[0] for name, own in photos.items()}, folder)
    rows = {
        name: [photos[name][0], *(image for own, image in images if own == name)] for name in photos
    }
    write_rows(rows, ["photo"], folder / "sheet.webp")
    print(f"{folder}: sheets for viewers; their answers go into {_ANSWERS}.")


def _draw(base: BaseModel, evaluator: Evaluator, subject: Subject, folder: Path) -> None:
    """Draw a subject in every prompt with every seed, if its sheet is not there."""
    file = folder / f"{subject.name}.png"
    if file.exists():
        return
    concept = teach(base, evaluator, subject, folder)
    texts = [prompt.format(subject.name) for prompt in _PROMPTS for _ in _SEEDS]
    uses = {subject.name: ConceptUse(concept)}
    config = base.defaults.generate_config()
    images = draw_all(base, texts, _SEEDS * len(_PROMPTS), uses, config)
    scratch = file.with_suffix(".part")
    contact.write([images], scratch)
    scratch.rename(file)


def counted(folder: Path) -> str:
    """Compare a viewer's answers with the key; ValueError for gaps."""
    key = json.loads((folder / KEY).read_text())
    answers = json.loads((folder / _ANSWERS).read_text())
    if len(answers) != len(key) or not set(answers) <= set(key):
        raise ValueError(f"{folder / _ANSWERS} needs the name of a photo for each of {len(key)}.")
    right = sum(ours == theirs for ours, theirs in zip(answers, key, strict=True))
    return f"A viewer gave {right} of {len(key)} images to the right photo."


if __name__ == "__main__":
    main()
