"""The demo's steps, in a new user's order: draw, teach, generate, compare, edit a picture.

All calls use REST, on a server of this release that the caller has started.
"""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from api.demo.client import Client, File
from api.demo.subjects import SUBJECTS, Photo, Subject, lawn, photograph
from perfusion_core.imaging import contact_sheet
from perfusion_core.imaging.contact_sheet import Axis

BETAS = {0.9: "faint", 0.7: "usual", 0.4: "strong"}
"""The biases that the sheet compares, with a word for each."""
SCENES = ("on the beach", "at night")
SEED = 200
_PAIRS = 4
_BOXES = ((40, 190, 210, 240), (262, 190, 210, 240))
"""Where the toys are put into a picture: left, top, width and height, one for each."""

Bar = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
"""Shows a task's progress: takes a text and a total, returns a function for the steps done."""


@dataclass
class Journey:
    """One run of the demo: its folder, its server, and the duration of each part."""

    client: Client
    folder: Path
    bar: Bar
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> Path:
        """Run all steps; return the contact sheet's file."""
        rows: list[Image.Image] = []
        with self._timed("photos"):
            photos = {subject: self._photograph(subject) for subject in SUBJECTS}
        for subject in SUBJECTS:
            with self._timed(f"teaching <{subject.name}>"):
                self._teach(subject, photos[subject])
        for subject in SUBJECTS:
            title = f"{len(photos[subject])} photos of <{subject.name}>, {_one(subject)}"
            pictures = [photo.picture for photo in photos[subject]]
            rows.append(_row(title, pictures, [""] * len(pictures)))
            with self._timed(f"images of <{subject.name}>"):
                rows.extend(self._compare(subject, scene) for scene in SCENES)
        with self._timed("both together"):
            rows.append(self._together())
        with self._timed("an edited picture"):
            rows.append(self._edit())
        file = self.folder / "contact-sheet.png"
        contact_sheet.stack(rows).save(file)
        return file

    def _photograph(self, subject: Subject) -> list[Photo]:
        photos = photograph(subject)
        folder = self.folder / "photos"
        folder.mkdir(parents=True, exist_ok=True)
        for k, photo in enumerate(photos, start=1):
            photo.picture.save(folder / f"{subject.name}-{k}.png")
            photo.mask.save(folder / f"{subject.name}-{k}-mask.png")
        return photos

    def _teach(self, subject: Subject, photos: list[Photo]) -> None:
        fields = {"name": subject.name, "superclass": subject.superclass}
        files: list[File] = []
        for k, photo in enumerate(photos):
            files.append(("images", (f"{k}.png", _png(photo.picture))))
            files.append(("masks", (f"{k}.png", _png(photo.mask))))
        self._finish(self.client.create_concept(fields, files), f"Teaching <{subject.name}>")

    def _compare(self, subject: Subject, scene: str) -> Image.Image:
        """Draw one scene with one seed: the superclass, then the concept with rising strength."""
        plain = f"plain {subject.superclass}"
        scene_of = f"a photo of {_one(subject)} {scene}"
        images = self._generate(scene_of, f"{subject.name} {scene} {plain}")
        captions = [plain]
        prompt = f"a photo of <{subject.name}> {scene}"
        for beta, word in BETAS.items():
            images += self._generate(
                prompt,
                f"{subject.name} {scene} beta {beta}",
                concepts=[{"name": subject.name, "beta": beta}],
            )
            captions.append(f"beta {beta}, {word}")
        return _row(f"{prompt}, seed {SEED}", images, captions)

    def _together(self) -> Image.Image:
        first, second = SUBJECTS
        prompt = f"a photo of <{first.name}> next to <{second.name}>"
        images = self._generate(prompt, "together", num_images=_PAIRS)
        return _row(prompt, images, [f"seed {SEED + k}" for k in range(_PAIRS)])

    def _edit(self) -> Image.Image:
        """Put one toy after the other into a picture, in which all else stays."""
        images, captions = [lawn()], ["a picture"]
        for subject, box in zip(SUBJECTS, _BOXES, strict=True):
            prompt = f"a photo of <{subject.name}> on the grass"
            job = self.client.edit(
                _png(images[-1]), prompt=prompt, mask={"boxes": [box]}, keep_background=True,
                seed=SEED,
            )  # fmt: skip
            images += self._finish_images(job, prompt, f"edit {subject.name}")
            captions.append(f"<{subject.name}> put into it")
        return _row("one edit after the other, each in a box", images, captions)

    def _generate(
        self, prompt: str, stem: str, *, num_images: int = 1, concepts: Sequence[Any] = ()
    ) -> list[Image.Image]:
        job = self.client.generate(
            prompt=prompt, concepts=concepts, seed=SEED, num_images=num_images
        )
        return self._finish_images(job, prompt, stem)

    def _finish_images(self, job: Any, prompt: str, stem: str) -> list[Image.Image]:
        """Wait for a job's images; keep each in the folder."""
        job = self._finish(job, f"Generating: {prompt}")
        images: list[Image.Image] = []
        for made in job["images"]:
            data = self.client.fetch(made["url"])
            name = f"{stem} seed {made['seed']}.png".replace(" ", "-")
            (self.folder / name).write_bytes(data)
            images.append(Image.open(io.BytesIO(data)))
        return images

    def _finish(self, job: Any, text: str) -> Any:
        with self.bar(text, job["progress"]["total_steps"]) as advance:
            return self.client.wait(job, advance)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        begun_s = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - begun_s


def _row(title: str, images: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Draw images next to each other, each below its caption."""

    def image_at(column: int, _: int, size: tuple[int, int]) -> Image.Image:
        return contact_sheet.fit(images[column], size=size)

    axes = [Axis("", captions)]
    return contact_sheet.draw(axes, image_at, image_size=images[0].size, title=title)


def _one(subject: Subject) -> str:
    article = "an" if subject.superclass[0] in "aeiou" else "a"
    return f"{article} {subject.superclass}"


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
