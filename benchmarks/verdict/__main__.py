"""The calibration of verdicts: 24 concepts, people's labels, thresholds.

    python -m benchmarks.verdict train [NAME ...]   # concepts and images; minutes each
    python -m benchmarks.verdict sheets             # what people look at, and labels.json
    python -m benchmarks.verdict fit                # thresholds, into the base model's folder
    python -m benchmarks.verdict match              # images of six concepts, to be told apart

Trained concepts are kept in a folder of the base model and the evaluator, so a stopped run goes on
where it was. Sheets may be made of the concepts so far; later ones get further sheets. People write
into labels.json, in the folder of the sheets, for each numbered image whether it shows the very
object of the photos above (true or false); if photos are mixed, the object of most of them. They
must not know the figures.

`match` writes match.png: six photos and, numbered below them, two images of each object at its
recommended strength. People write into match.json the number of the photo, from the left, whose
object each image shows. `match` then counts.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

from PIL import Image

from benchmarks.paper.methods.method import BASE_FOLDER
from benchmarks.verdict.concepts import ALL, PROMPTS, Made, draw, pictures_of, teach
from benchmarks.verdict.fit import Case, calibrate
from benchmarks.verdict.matching import ANSWERS, MATCHED, count_right, draw_matched, write_match
from benchmarks.verdict.sheets import read_labels, write_sheets
from perfusion_core import BaseModel, Concept
from perfusion_core.evaluation.calibration import CALIBRATION_FILE
from perfusion_core.evaluation.eval_prompts import judging_of
from perfusion_core.evaluation.verdict import figures_of
from perfusion_core.evaluators.concept_evaluator import measures_text_floor
from perfusion_core.evaluators.similarity import Evaluator

_KEPT = Path("~/.cache/perfusion-verdict").expanduser()
_EVALUATOR = BASE_FOLDER.parent / "evaluator"


def main(arguments: Sequence[str] | None = None) -> None:
    """Do one step of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("train", "sheets", "fit", "match"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--base-model", type=Path, default=BASE_FOLDER, metavar="FOLDER")
    parser.add_argument("--evaluator", type=Path, default=_EVALUATOR, metavar="FOLDER")
    parser.add_argument("--kept", type=Path, default=_KEPT, metavar="FOLDER")
    parser.add_argument("--shuffle", type=int, default=19, metavar="SEED")
    asked = parser.parse_args(arguments)
    unknown = set(asked.names) - {made.name for made in ALL}
    if unknown:
        parser.error(f"There is no {', '.join(sorted(unknown))}.")
    chosen = [made for made in ALL if not asked.names or made.name in asked.names]
    # A first part of the sheets must not hold the well-made concepts alone.
    Random(asked.shuffle).shuffle(chosen)
    base = BaseModel.load(asked.base_model, device="cpu")
    folder = asked.kept / kept_name(base, asked.evaluator)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if asked.step == "train":
            _train(chosen, base, asked.evaluator, folder)
        elif asked.step == "sheets":
            _sheets(chosen, base, folder, shuffle=asked.shuffle)
        elif asked.step == "match":
            _match(base, folder, shuffle=asked.shuffle)
        else:
            _fit(chosen, base, folder, asked.base_model / CALIBRATION_FILE)
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))


def kept_name(base: BaseModel, evaluator: Path) -> str:
    """Name the folder of what depends on base model, defaults, evaluator and judging."""
    judge = Evaluator(evaluator)
    judging = judging_of(base.defaults, text_floor=measures_text_floor(base, judge))
    told = (
        base.fingerprint, base.covariance_fingerprint, base.defaults, judging,
        judge.ref.fingerprint,
    )  # fmt: skip
    return f"{base.name}-{hashlib.sha256(repr(told).encode()).hexdigest()[:12]}"


def _train(chosen: Sequence[Made], base: BaseModel, evaluator: Path, folder: Path) -> None:
    for made in chosen:
        file = _file(folder, made)
        if not file.is_file():
            part = file.with_suffix(".part")
            teach(made, base, evaluator).save(part)
            part.rename(file)  # whole, or not there
        images = [_image(folder, made, k) for k in range(len(PROMPTS))]
        if not all(image.is_file() for image in images):
            for path, image in zip(images, draw(Concept.load(file), base), strict=True):
                image.save(path)
        print(f"{made.name}: {file}", flush=True)


def _sheets(chosen: Sequence[Made], base: BaseModel, folder: Path, *, shuffle: int) -> None:
    shown = {}
    for made in chosen:
        files = [_image(folder, made, k) for k in range(len(PROMPTS))]
        if all(file.is_file() for file in files):
            pictures, _ = pictures_of(made, side=base.default_resolution)
            shown[made.name] = (pictures, [Image.open(file) for file in files])
    write_sheets(shown, folder, shuffle=shuffle)
    print(f"sheets of {len(shown)} of {len(chosen)} concepts, key.json and labels.json in {folder}")


def _match(base: BaseModel, folder: Path, *, shuffle: int) -> None:
    if not (folder / ANSWERS).is_file():
        photos, images = {}, {}
        for made in MATCHED:
            photos[made.name] = pictures_of(made, side=base.default_resolution)[0][0]
            images[made.name] = draw_matched(_trained(folder, made), base)
        write_match(photos, images, folder, shuffle=shuffle)
        print(f"{folder / 'match.png'}: fill in {folder / ANSWERS}")
    else:
        right, count = count_right(folder)
        print(f"{right} of {count} images were given to the right photo.")


def _fit(chosen: Sequence[Made], base: BaseModel, folder: Path, target: Path) -> None:
    labels, cases = read_labels(folder), []
    for made in sorted(chosen, key=ALL.index):
        found = _trained(folder, made).evaluation
        figures = figures_of(found) if found is not None else None
        if figures is None or made.name not in labels:
            raise ValueError(f"{made.name} has no figures or no labels: train it, make sheets.")
        cases.append(Case(made.name, labels[made.name], figures))
    told = calibrate(cases, base_model=base.fingerprint)
    target.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    for concept in told["concepts"]:
        labels, agrees = concept["labels"], concept["said_when_left_out"] == concept["good"]
        print(
            f"{concept['name']:32} {sum(labels)} of {len(labels)}  gain {concept['gain']:.2f}  "
            f"presence {concept['presence']:.2f}  kept {concept['kept']:.2f}  "
            f"{'' if agrees else 'disagrees when left out'}"
        )
    agreement = told["agreement"]
    print(
        f"{target}: {told['thresholds']}; agrees in {agreement['all']} of {agreement['of']}, and "
        f"in {agreement['left_out']} where the concept itself was left out."
    )


def _trained(folder: Path, made: Made) -> Concept:
    file = _file(folder, made)
    if not file.is_file():
        raise ValueError(f"There is no {file}: run `python -m benchmarks.verdict train` first.")
    return Concept.load(file)


def _file(folder: Path, made: Made) -> Path:
    return folder / f"{made.name.replace(', ', '-').replace(' ', '-')}.safetensors"


def _image(folder: Path, made: Made, k: int) -> Path:
    return _file(folder, made).with_suffix(f".{k}.png")


if __name__ == "__main__":
    main()
