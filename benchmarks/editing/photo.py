"""Edits among generations in one batch, and the time that an edit of a large photo takes.

The photo is a JPEG of 4000 x 3000 pixels, and the box has 20 % of its area.
"""

import io
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
from PIL import Image, ImageFilter

from perfusion_core import BaseModel, Concept, ConceptUse
from perfusion_core.config import EditConfig
from perfusion_core.editing.edit import Edit
from perfusion_core.editing.masks import mask_of_boxes
from perfusion_core.pictures.reading import open_whole
from perfusion_core.sampling import png
from perfusion_core.sampling.sample import Sample
from perfusion_core.sampling.sampler import ImageRequest, decode, start, step
from perfusion_core.sampling.trajectories import Batch, Trajectory

T = TypeVar("T")
_SEED = 11


def compare_company(base: BaseModel) -> None:
    """Print how far images that are sampled alone and in one batch are apart."""
    picture = _photo((600, 450))
    edit = Edit(picture=picture, mask=mask_of_boxes(picture.size, [(200, 150, 150, 150)]))
    config = base.defaults.generate_config({"seed": _SEED})
    requests = [
        ImageRequest(prompt="a photo of a cat", config=config, edit=edit),
        ImageRequest(prompt="a photo of a dog", config=replace(config, seed=1)),
        ImageRequest(prompt="a car", config=replace(config, scheduler="euler_a"), edit=edit),
        ImageRequest(prompt="an owl", config=replace(config, num_inference_steps=12)),
        ImageRequest(prompt="a painting", config=config, edit=Edit(picture=picture)),
    ]

    def finish(trajectories: list[Trajectory]) -> Iterator[Image.Image]:
        while active := [t for t in trajectories if not t.finished]:
            step(base, active)
        yield from (decode(base, trajectory) for trajectory in trajectories)

    alone = [next(finish(start(base, request))) for request in requests]
    company = finish([t for request in requests for t in start(base, request)])
    apart = [
        int(np.abs(np.asarray(image, np.int16) - np.asarray(other, np.int16)).max())
        for image, other in zip(alone, company, strict=True)
    ]
    print(f"grey levels between an image alone and in a batch of {len(requests)}: {apart}")


def time_photo(base: BaseModel, rounds: int, *, concept: Concept | None) -> None:
    """Print the medians of the parts of an edit of a large photo.

    With a concept, both images show it, and the edit keeps the background.
    """
    size = (4000, 3000)
    jpeg = io.BytesIO()
    _photo(size).save(jpeg, "JPEG", quality=92)
    boxes = [(1200, 900, 1600, 1500)]  # 20 % of the area
    config = base.defaults.generate_config({"seed": _SEED})
    plain = ImageRequest(prompt="a photo of a cat", config=config)
    if concept is not None:
        uses = {concept.name: ConceptUse(concept)}
        plain = ImageRequest(prompt=f"a photo of <{concept.name}>", concepts=uses, config=config)
    hashes = dict.fromkeys(plain.concepts, "0" * 64)
    options = EditConfig(keep_background=concept is not None)
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], T]) -> T:
        begun_s = time.perf_counter()
        result = work()
        times.setdefault(name, []).append(time.perf_counter() - begun_s)
        return result

    def sampled(request: ImageRequest) -> Trajectory:
        (trajectory,) = start(base, request)
        batch = Batch([trajectory])
        while not trajectory.finished:
            step(base, batch)
        return trajectory

    sampled(plain)  # warms up
    for _ in range(rounds):
        decode(base, timed("plain: sampling", partial(sampled, plain)))
        jpeg.seek(0)
        picture = timed("edit: decoding the JPEG", partial(open_whole, jpeg))
        mask = mask_of_boxes(picture.size, boxes)
        request = replace(plain, edit=Edit(picture=picture, mask=mask, config=options))
        trajectory = timed("edit: sampling", partial(sampled, request))
        image = timed("edit: decoding the latents and blending", partial(decode, base, trajectory))
        sample = Sample.of(trajectory, image)
        timed(
            "edit: encoding the PNG",
            partial(png.encode, sample, request=request, concept_hashes=hashes, base=base),
        )
    for name, seconds in times.items():
        print(f"{name}: {statistics.median(seconds):.2f} s")
    ratio = statistics.median(
        edit / alone
        for edit, alone in zip(times["edit: sampling"], times["plain: sampling"], strict=True)
    )
    print(f"sampling an edit: {ratio:.2f} x a plain image's, median of {rounds} pairs")


def _photo(size: tuple[int, int]) -> Image.Image:
    """Return a picture with shapes, gradients and grain, as hard to compress as a photo."""
    chance = np.random.default_rng(0)
    small = Image.fromarray(chance.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    soft = small.resize(size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(2))
    grain = chance.normal(0, 4, (size[1], size[0], 1))
    return Image.fromarray((np.asarray(soft) + grain).clip(0, 255).astype(np.uint8))
