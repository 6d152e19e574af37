"""Edits in the engine: in one batch with generations, and equal to edits alone."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.config import EditConfig
from perfusion_core.editing.edit import Edit
from perfusion_core.editing.masks import mask_of_boxes
from perfusion_core.sampling.sampler import ImageRequest
from tests.unit.perfusion_core.conftest import drawing
from tests.unit.worker.engine.conftest import asking, grey_levels_apart
from worker.engine.engine import Engine


def edits() -> list[ImageRequest]:
    picture = drawing(100)
    mask = mask_of_boxes(picture.size, [(30, 20, 40, 50)])
    weak = EditConfig(denoising_strength=0.5)
    return [
        replace(asking("a cat", num_images=2), edit=Edit(picture=picture, mask=mask)),
        replace(asking(scheduler="euler_a"), edit=Edit(picture=picture, mask=mask, config=weak)),
        replace(asking(num_inference_steps=5), edit=Edit(picture=picture)),
    ]


@pytest.mark.parametrize("exact", [False, True])
def test_edits_share_batches_with_generations_and_come_out_the_same(
    base: BaseModel, exact: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    batch_of = "worker.engine.packing.Packing.batch_of"
    original = Engine(lambda: base)._packing.batch_of.__func__  # type: ignore[attr-defined]

    def counted(self: object, slots: list[object]) -> object:
        sizes.append(len(slots))
        return original(self, slots)

    monkeypatch.setattr(batch_of, counted)
    requests = [*edits(), asking("a dog"), asking("a car", scheduler="euler", seed=8)]

    def images(together: list[ImageRequest]) -> list[Image.Image]:
        engine = Engine(lambda: base, exact=exact)
        waiting = [engine.submit(request) for request in together]
        engine.start()
        found = [s.image for each in waiting for s in each.result(timeout_seconds=120)]
        engine.stop()
        return found

    alone = [image for request in requests for image in images([request])]
    sizes.clear()
    company = images(requests)
    assert max(sizes) >= 4
    assert max(map(grey_levels_apart, alone, company)) <= (0 if exact else 1)


def test_the_sample_of_a_masked_edit_says_where_it_was_painted(base: BaseModel) -> None:
    picture = drawing(100)
    mask = mask_of_boxes(picture.size, [(30, 20, 40, 50)])
    edit = Edit(picture=picture, mask=mask, config=EditConfig(mask_margin=5))
    engine = Engine(lambda: base)
    engine.start()
    sample = engine.submit(replace(asking("a cat"), edit=edit)).result(timeout_seconds=120)[0]
    engine.stop()
    outside = np.asarray(mask) < 128
    assert (np.asarray(sample.image)[outside] == np.asarray(picture)[outside]).all()
    assert sample.window is not None
    left, top, right, bottom = sample.window.visible
    assert left < 30 and top < 20 and right > 70 and bottom >= 70
    assert sample.seen.size == (right - left, bottom - top) < sample.image.size
