"""An exact layout: each subject is painted into a box of its own, one after the other."""

from collections.abc import Mapping, Sequence

from PIL import Image

from models.maker.scenes.catalogue import PLACES
from models.maker.scenes.places import draw_places
from perfusion_core import BaseModel, ConceptUse
from perfusion_core.config import EditConfig
from perfusion_core.editing.edit import Edit
from perfusion_core.editing.masks import mask_of_boxes
from perfusion_core.sampling.sampler import ImageRequest, decode, start, step
from perfusion_core.sampling.trajectories import Batch

_BOXES = ((0.03, 0.30, 0.46, 0.62), (0.51, 0.30, 0.46, 0.62))
"""Left, top, width and height, as shares of the image's side; one for each subject of a pair."""

_PLACES_SEED = 90210


def draw_boxed(
    base: BaseModel, uses: Mapping[str, ConceptUse], prompts: Sequence[str], seeds: Sequence[int]
) -> list[Image.Image]:
    """Draw one image for each prompt and its seed. Each prompt ends with the word of a place."""
    side = base.default_resolution
    images = [empty_place(prompt.split()[-1], side=side) for prompt in prompts]
    for name, box in zip(uses, _BOXES, strict=True):
        left, top, width, height = (round(share * side) for share in box)
        mask = mask_of_boxes((side, side), [(left, top, width, height)])
        trajectories = []
        for image, prompt, seed in zip(images, prompts, seeds, strict=True):
            _, place = prompt.split(" on ")
            request = ImageRequest(
                prompt=f"a photo of a <{name}> on {place}",
                concepts={name: uses[name]},
                config=base.defaults.generate_config({"seed": seed}),
                edit=Edit(
                    picture=image,
                    mask=mask,
                    config=EditConfig(keep_background=True, mask_margin=0),
                ),
            )
            trajectories += start(base, request)
        batch = Batch(trajectories)
        while not trajectories[0].finished:  # all have equally many steps
            step(base, batch)
        images = [decode(base, trajectory) for trajectory in trajectories]
    return images


def empty_place(word: str, *, side: int) -> Image.Image:
    """Draw a place without any object, by a seed that no training used."""
    drawn = draw_places(_PLACES_SEED, variants=1)[list(PLACES).index(word), 0]
    return Image.fromarray(drawn).resize((side, side), Image.Resampling.LANCZOS)
