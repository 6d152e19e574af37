"""Edits: equal to diffusers' own pipelines, in any company, and nothing changes outside a mask."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import ConceptUse
from perfusion_core.config import EditConfig, GenerateConfig, SchedulerName
from perfusion_core.editing.edit import Edit
from perfusion_core.editing.masks import mask_of_boxes
from perfusion_core.errors import EditError
from perfusion_core.sampling.sampler import ImageRequest, decode, generate, start, step
from perfusion_core.sampling.trajectories import Trajectory
from tests.unit.perfusion_core.conftest import drawing
from tests.unit.perfusion_core.sampling import test_schedulers
from tests.unit.perfusion_core.sampling.test_sampler import QUICK, grey_levels_apart
from tests.unit.perfusion_core.sampling.test_schedulers import MATRIX, PROMPT, SEED, WRITTEN, Pair
from tests.unit.perfusion_core.test_conditioning import concept_like

pair = test_schedulers.pair


def masked(side: int = 80, boxes: Any = ((20, 30, 41, 27),), **options: Any) -> Edit:
    picture = drawing(side)
    config = EditConfig(**options)
    return Edit(picture=picture, mask=mask_of_boxes(picture.size, boxes), config=config)


def finished(base: BaseModel, request: ImageRequest) -> Trajectory:
    trajectory = start(base, request)[0]
    while not trajectory.finished:
        step(base, [trajectory])
    return trajectory


def of_diffusers(both: Pair, kind: Any, name: SchedulerName, **options: Any) -> torch.Tensor:
    """Return the latents that an edit by diffusers' pipeline of `kind` ends with."""
    parts = {
        key: value for key, value in both.pipeline.components.items()
        if key not in ("safety_checker", "feature_extractor", "image_encoder")
    }  # fmt: skip
    if "tokenizer_2" not in parts:
        parts |= {"safety_checker": None, "feature_extractor": None}
    more = {} if "tokenizer_2" in parts else {"requires_safety_checker": False}
    pipeline = kind(**{**parts, "scheduler": both.written(name)}, **more)
    pipeline.set_progress_bar_config(disable=True)
    latents: torch.Tensor = pipeline(
        PROMPT, num_inference_steps=6, guidance_scale=4.0, output_type="latent",
        generator=torch.Generator().manual_seed(SEED),
        **({"eta": 0.3} if name == "tcd" else {}), **options,
    ).images  # fmt: skip
    return latents


def ours(both: Pair, name: SchedulerName, edit: Edit) -> Trajectory:
    config = GenerateConfig(seed=SEED, num_inference_steps=6, guidance_scale=4.0, scheduler=name)
    return finished(both.base, ImageRequest(prompt=PROMPT, config=config, edit=edit))


def known_of(trajectory: Trajectory) -> torch.Tensor:
    assert trajectory.known is not None
    return trajectory.known.edit.latents


@MATRIX
@pytest.mark.parametrize("name", WRITTEN)
def test_image_to_image_equals_that_of_diffusers(
    pair: Callable[..., Pair], family: str, schedule: dict[str, Any], name: SchedulerName
) -> None:
    both = pair(family, schedule)
    kind = (
        diffusers.StableDiffusionXLImg2ImgPipeline
        if family == "sdxl"
        else diffusers.StableDiffusionImg2ImgPipeline
    )
    edit = Edit(picture=drawing(), config=EditConfig(denoising_strength=0.7))
    mine = ours(both, name, edit)
    theirs = of_diffusers(both, kind, name, image=known_of(mine), strength=0.7)
    assert mine.total_steps == 4
    assert torch.allclose(mine.latents, theirs, atol=2e-3)


@MATRIX
@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("name", WRITTEN)
def test_a_masked_edit_equals_that_of_diffusers_on_whole_latents(
    pair: Callable[..., Pair], family: str, schedule: dict[str, Any], name: SchedulerName,
    strength: float,
) -> None:  # fmt: skip
    both = pair(family, schedule)
    kind = (
        diffusers.StableDiffusionXLInpaintPipeline
        if family == "sdxl"
        else diffusers.StableDiffusionInpaintPipeline
    )
    side = both.base.default_resolution
    # The window is the whole picture, and the box consists of whole latents.
    edit = masked(side, [(4, 2, 8, 6)], mask_margin=side, denoising_strength=strength)
    mine = ours(both, name, edit)
    known = known_of(mine)
    theirs = of_diffusers(
        both, kind, name, image=known, mask_image=edit.mask, strength=strength,
        masked_image_latents=torch.zeros_like(known),
    )  # fmt: skip
    assert torch.allclose(mine.latents, theirs, atol=2e-3)
    assert not torch.allclose(mine.latents, known, atol=0.1)


@pytest.mark.parametrize("scheduler", get_args(SchedulerName))
def test_outside_the_mask_not_one_pixel_changes(base: BaseModel, scheduler: str) -> None:
    config = GenerateConfig(**{**vars(QUICK), "scheduler": scheduler})
    edit = masked(boxes=[(20, 30, 41, 27), (0, 70, 9, 10)])
    assert edit.mask is not None
    image, again = (generate(base, "a cat", config=config, edit=edit)[0] for _ in range(2))
    after, before = np.asarray(image), np.asarray(edit.picture)
    white = np.asarray(edit.mask) >= 128
    assert (after[~white] == before[~white]).all()
    assert np.abs(after[white].astype(int) - before[white]).mean() > 5
    assert image.tobytes() == again.tobytes()


def test_edits_are_the_same_alone_and_among_generations(base: BaseModel) -> None:
    use = {"x": ConceptUse(concept_like(base, "teddy"), 0.7)}
    requests = [
        ImageRequest(prompt="a photo of <x>", concepts=use, config=QUICK, edit=masked()),
        ImageRequest(prompt="a car", config=replace(QUICK, guidance_scale=1.0, scheduler="euler")),
        ImageRequest(prompt="a dog", config=replace(QUICK, scheduler="euler_a", seed=9),
                     edit=masked(50, [(0, 0, 20, 20)], denoising_strength=0.5)),
        ImageRequest(prompt="<x> on a table", concepts=use, attention_maps=True,
                     config=QUICK, edit=masked(90, keep_background=True)),
        ImageRequest(prompt="a <x> on the beach", concepts=use, edit=Edit(picture=drawing(90)),
                     config=replace(QUICK, num_inference_steps=6, scheduler="dpmpp_2m")),
    ]  # fmt: skip

    def finish(trajectories: list[Trajectory]) -> list[Image.Image]:
        while active := [t for t in trajectories if not t.finished]:
            step(base, active)
        return [decode(base, t) for t in trajectories]

    alone = [finish(start(base, request))[0] for request in requests]
    company = finish([t for request in requests for t in start(base, request)])
    assert max(map(grey_levels_apart, alone, company)) <= 1


def test_an_edit_that_keeps_the_background_changes_only_where_its_subject_is(
    base: BaseModel,
) -> None:
    use = {"x": ConceptUse(concept_like(base, "teddy"), 0.7)}
    edit = masked(boxes=[(10, 10, 60, 60)], mask_feather=0, keep_background=True)
    request = ImageRequest(prompt="a photo of <x>", concepts=use, config=QUICK, edit=edit)
    assert finished(base, request).subject.found is not None  # type: ignore[union-attr]
    (trajectory,) = start(base, request)
    assert trajectory.subject is not None
    shown = torch.zeros(1, 1, *trajectory.latents.shape[2:], dtype=torch.bool)
    shown[..., : shown.shape[-1] // 2] = True
    trajectory.subject.found = shown
    while not trajectory.finished:
        step(base, [trajectory])
    new, known = trajectory.latents, known_of(trajectory)
    around = ~shown.expand_as(new)
    assert torch.equal(new[around], known[around])
    assert (new - known)[~around].abs().mean() > 0.1
    changed = np.abs(np.asarray(decode(base, trajectory), int) - np.asarray(edit.picture))
    assert changed[20:60, 12:30].mean() > 5 * changed[20:60, 55:68].mean()


def test_an_edit_can_keep_the_background_of_a_mask_and_a_concept_alone(base: BaseModel) -> None:
    with pytest.raises(EditError, match="needs a concept in the prompt"):
        generate(base, "a cat", config=QUICK, edit=masked(keep_background=True))
    with pytest.raises(EditError, match="needs a mask"):
        Edit(picture=drawing(), config=EditConfig(keep_background=True))


def test_a_weak_edit_takes_few_steps_and_stays_near_the_picture(base: BaseModel) -> None:
    def edited(strength: float) -> Trajectory:
        edit = Edit(picture=drawing(), config=EditConfig(denoising_strength=strength))
        return finished(base, ImageRequest(prompt="a cat", config=QUICK, edit=edit))

    weak, strong = edited(0.1), edited(1.0)
    assert (weak.total_steps, strong.total_steps) == (1, 4)
    far, near = ((t.latents - known_of(t)).abs().mean() for t in (strong, weak))
    assert near < far / 2


def test_without_a_mask_the_picture_covers_the_size_that_is_asked_for(base: BaseModel) -> None:
    config = replace(QUICK, width=96, height=48)
    assert generate(base, "a cat", config=config, edit=Edit(picture=drawing()))[0].size == (96, 48)
    with pytest.raises(EditError, match="leave width and height out"):
        generate(base, "a cat", config=config, edit=masked())


def test_every_image_of_a_request_has_its_own_noise(base: BaseModel) -> None:
    images = generate(base, "a cat", config=replace(QUICK, num_images=2), edit=masked())
    alone = generate(base, "a cat", config=replace(QUICK, seed=4), edit=masked())[0]
    assert grey_levels_apart(images[1], alone) <= 1
    assert grey_levels_apart(images[0], images[1]) > 5
