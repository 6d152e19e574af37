"""Whether subjects are recognised that a masked edit put into a scene.

Concepts are taught as the product teaches (benchmarks/taught.py) and used at their recommended
strength; the edits keep the background, without a margin. The scenes are drawn places without any
subject, enlarged to 512 pixels; boxes and seeds are fixed. EfficientNet-Lite2 gives each box's crop
to the subject whose five photos are nearest. Sheets for people (benchmarks/paper/figures/eyes.py)
go into the folder of results. Images are kept there, so an interrupted run goes on.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.paper.figures.boxes import empty_place
from benchmarks.paper.figures.eyes import write_shuffled
from benchmarks.paper.measures import count_nearest
from benchmarks.paper.outside import features
from benchmarks.paper.subjects import REPORTED, Subject, photograph
from benchmarks.taught import teach
from perfusion_core import BaseModel, Concept, ConceptUse
from perfusion_core.config import EditConfig
from perfusion_core.editing.edit import Edit
from perfusion_core.editing.masks import mask_of_boxes
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.sampling.sampler import ImageRequest, decode_together, start, step
from perfusion_core.sampling.trajectories import Batch

_SCENES = ("on the beach", "in the snow", "in the forest", "in the city")
_PHOTO_PIXELS = 512
# Left, top, width and height, in the order of the scenes.
_BOXES = ((150, 190, 250, 250), (60, 150, 280, 280), (210, 200, 240, 240), (130, 130, 300, 300))
_SEED = 11


def recognise(
    base: BaseModel, evaluator: Evaluator, names: Sequence[str], *, concepts: Path, folder: Path
) -> None:
    """Draw what the folder lacks, print how many crops are recognised, and write the sheets."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = _scenes()
    subjects = [subject for subject in REPORTED if subject.name in names]
    images: dict[tuple[str, int], Image.Image] = {}
    for subject in subjects:
        concept = teach(base, evaluator, subject, concepts)
        files = [folder / f"{subject.name}-{number}.png" for number in range(len(scenes))]
        if not all(file.exists() for file in files):
            for file, image in zip(files, _edited(base, concept, subject, scenes), strict=True):
                image.save(file)
        for number, (file, scene) in enumerate(zip(files, scenes, strict=True)):
            images[subject.name, number] = Image.open(file)
            outside = np.asarray(mask_of_boxes(scene.size, [_BOXES[number]])) == 0
            kept = np.asarray(images[subject.name, number])[outside] == np.asarray(scene)[outside]
            assert kept.all(), "a pixel outside the mask changed"
        print(f"{subject.name}: drawn", flush=True)
    crops = {key: _crop(image, key[1]) for key, image in images.items()}
    photos = {
        subject.name: [photo.picture for photo in photograph(subject, side=224)]
        for subject in REPORTED
    }
    names_of_crops = [name for name, _ in crops]
    known = {name: features(pictures) for name, pictures in photos.items()}
    right = count_nearest(features(list(crops.values())), known, names_of_crops)
    print(f"EfficientNet-Lite2 recognises {right} of {len(crops)} crops.")
    answered = list(zip(names_of_crops, crops.values(), strict=True))
    write_shuffled(answered, {name: own[0] for name, own in photos.items()}, folder)
    _contact(scenes, images, subjects).save(folder / "sheet.webp", quality=70, method=6)


def _scenes() -> list[Image.Image]:
    """Return the places of the scenes."""
    return [empty_place(scene.split()[-1], side=_PHOTO_PIXELS) for scene in _SCENES]


def _edited(
    base: BaseModel, concept: Concept, subject: Subject, scenes: Sequence[Image.Image]
) -> list[Image.Image]:
    """Put a subject into all scenes, in one batch."""
    trajectories = []
    for place, scene, box in zip(_SCENES, scenes, _BOXES, strict=True):
        request = ImageRequest(
            prompt=f"a photo of <{concept.name}> {place}",
            concepts={concept.name: ConceptUse(concept)},
            config=base.defaults.generate_config({"seed": _SEED + REPORTED.index(subject)}),
            edit=Edit(
                picture=scene,
                mask=mask_of_boxes(scene.size, [box]),
                config=EditConfig(keep_background=True, mask_margin=0),
            ),
        )
        trajectories += start(base, request)
    batch = Batch(trajectories)
    while not trajectories[0].finished:  # all have equally many steps
        step(base, batch)
    return decode_together(base, trajectories)


def _crop(image: Image.Image, number: int) -> Image.Image:
    left, top, width, height = _BOXES[number]
    crop = image.crop((left, top, left + width, top + height))
    return crop.resize((224, 224), Image.Resampling.LANCZOS)


def _contact(
    scenes: Sequence[Image.Image],
    images: dict[tuple[str, int], Image.Image],
    subjects: Sequence[Subject],
) -> Image.Image:
    """Return the scenes above their edits, a row for each subject."""
    side = 192
    rows = [list(scenes)] + [
        [images[subject.name, number] for number in range(len(scenes))] for subject in subjects
    ]
    sheet = Image.new("RGB", (len(scenes) * side, len(rows) * side))
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image.resize((side, side), Image.Resampling.LANCZOS), (x * side, y * side))
    return sheet
