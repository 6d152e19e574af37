"""What the paper's comparison rests on: its subjects, its arithmetic, and that it goes on.

The base model is tiny and random, with another size, other latents and another prediction than the
shipped one: nothing may depend on those.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image

from benchmarks.paper.__main__ import main
from benchmarks.paper.compare import Comparison, compare
from benchmarks.paper.contact import cut
from benchmarks.paper.contact import write as write_sheet
from benchmarks.paper.figures.front import nearest
from benchmarks.paper.figures.sizes import of_sd15, stored_bytes
from benchmarks.paper.kept import Store, kept_name
from benchmarks.paper.measures import interval, scene_overlap
from benchmarks.paper.methods.baselines import Options, custom_diffusion, lora, textual_inversion
from benchmarks.paper.methods.choice import ablations, compared
from benchmarks.paper.methods.method import BASE_FOLDER, images_at_once
from benchmarks.paper.methods.perfusion import Perfusion
from benchmarks.paper.subjects import REPORTED, TUNED, Photo, Subject, photograph, prompts_of
from perfusion_core import BaseModel
from perfusion_core.evaluation.curve import BETAS
from perfusion_core.evaluators.similarity import Evaluator
from tests.unit.benchmarks.conftest import LATENT_CHANNELS, SIDE

_EVALUATOR = BASE_FOLDER.parent / "evaluator"


def test_no_subject_is_both_tuned_on_and_reported() -> None:
    assert not set(TUNED) & set(REPORTED)
    assert len(REPORTED) >= 12
    assert len({subject.superclass for subject in REPORTED}) >= 8
    assert all(len(set(prompts_of(subject))) >= 10 for subject in REPORTED)


def _of_all_subjects(*points: tuple[float, float], scatter: float = 0.0) -> np.ndarray:
    """Twelve subjects that differ, each by as much in every method; `scatter`: and in this one."""
    own = np.random.default_rng(0).normal(0, 0.2, (12, 1, 1))
    return np.array(points) + own + np.random.default_rng(1).normal(0, scatter, (12, 1, 2))


def test_a_sweep_is_compared_where_it_keeps_the_text() -> None:
    ours = _of_all_subjects((0.4, 0.9), (0.5, 0.8), (0.6, 0.7))
    assert nearest(ours, _of_all_subjects((0.45, 0.5))).dial == 1
    assert nearest(ours, _of_all_subjects((0.9, 0.1))).dial == 2


def test_who_is_above_is_decided_within_subjects_by_the_interval() -> None:
    ours = _of_all_subjects((0.4, 0.9), (0.6, 0.7))
    for other, verdict in (((0.5, 0.6), "above"), ((0.6, 0.8), "below"), ((0.7, 0.1), "trade")):
        assert nearest(ours, _of_all_subjects(other, scatter=0.01)).verdict == verdict
    assert nearest(ours, _of_all_subjects((0.59, 0.69), scatter=0.2)).verdict == "tie"


def test_the_interval_is_students() -> None:
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.303 / 3**0.5, rel=1e-3)


def test_a_scene_is_told_by_the_edges_whatever_the_subject_does() -> None:
    beach = Image.new("RGB", (64, 64), (90, 170, 220))
    with_hat, on_a_wall = beach.copy(), Image.new("RGB", (64, 64), (230, 225, 220))
    with_hat.paste((40, 30, 60), (10, 10, 54, 64))
    on_a_wall.paste((40, 30, 60), (10, 10, 54, 64))
    assert scene_overlap([with_hat], [beach]) == pytest.approx(1)
    assert scene_overlap([on_a_wall], [beach]) < 0.1
    assert scene_overlap([with_hat, on_a_wall], [beach, beach]) == pytest.approx(0.5, abs=0.05)


class _Counting:
    """A method that learns nothing, and counts how often."""

    name = "counting, twice"
    schedule: Mapping[int, tuple[float, ...]] = MappingProxyType({1: (0.5, 1.0)})
    seed_count = 2
    usual = 1.0
    usual_steps = 1
    taught_as = name
    taught: Mapping[str, Any] = MappingProxyType({"rate": 1})
    drawn: Mapping[str, Any] = MappingProxyType({})
    stored_bytes = 7
    steps = 1
    seconds = 0.0
    count = 0

    def learn(
        self, subject: Subject, photos: Sequence[Photo], *, seed: int
    ) -> "Iterator[_Counting]":
        self.count += 1
        yield self

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], dial: float) -> list[Image.Image]:
        return [Image.new("RGB", (SIDE, SIDE), "red") for _ in zip(prompts, seeds, strict=True)]

    def keep(self, file: Path) -> None:
        file.write_text("kept")

    def read(self, file: Path, subject: Subject, *, seconds: float) -> None:
        return None


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    store, method = Store(tmp_path, SIDE), _Counting()
    comparison = Comparison(Evaluator(_EVALUATOR), store, prompt_count=1)
    first = compare(method, TUNED[:1], comparison)
    again = compare(method, TUNED[:2], comparison)
    assert method.count == 2
    assert again[0] == first[0]
    assert [row["dial"] for row in first[0]["rows"]] == [0.5, 1.0]
    assert (first[0]["acting"]["steps"], first[0]["acting"]["dial"]) == (1, 1.0)
    assert not list(tmp_path.rglob("*.part"))
    method.taught = {"rate": 2}
    compare(method, TUNED[:1], comparison)
    assert method.count == 3  # other options, another result
    method.taught = {"rate": 1}
    compare(method, TUNED[:2], comparison)
    assert method.count == 3


def test_sizes_computed_from_shapes_are_those_that_are_stored(
    odd: BaseModel, odd_folder: Path
) -> None:
    width = len(odd.text.tables[0][0])
    computed = stored_bytes(odd.unet, token_width=width)
    subject = TUNED[0]
    options = Options(schedule={1: (1.0,)}, rate=1e-4, embedding_rate=1e-3)
    makers = (textual_inversion, lora, custom_diffusion)
    baselines = [make(odd, odd_folder, options) for make in makers]
    for method in (Perfusion(odd, schedule={1: (1.0,)}), *baselines):
        (learned,) = method.learn(subject, photograph(subject, 1, side=SIDE), seed=0)
        embedding = 4 * width if method.name == "lora" else 0  # only its embedding rate is tested
        assert learned.stored_bytes == computed[method.name] + embedding
    assert of_sd15()["perfusion"] == 4 * (12_480 + 3 * 768)
    large = of_sd15()
    assert large["custom diffusion"] > 1000 * large["perfusion"]
    assert large["dreambooth"] > 40 * large["custom diffusion"]


@pytest.mark.parametrize("side", [64, 128, 512])
def test_photos_have_the_base_models_size_and_show_the_same_at_every_size(side: int) -> None:
    for photo, small in zip(
        photograph(TUNED[0], side=side), photograph(TUNED[0], side=32), strict=True
    ):
        assert photo.picture.size == photo.mask.size == (side, side)
        for mine, theirs in ((photo.picture, small.picture), (photo.mask, small.mask)):
            shrunk = np.asarray(mine.resize((32, 32), Image.Resampling.BOX), float)
            assert np.abs(shrunk - np.asarray(theirs, float)).mean() < 4


def test_a_sheet_gives_back_its_images_whatever_their_size(tmp_path: Path) -> None:
    for side in (24, 128):
        noise = np.random.default_rng(side).integers(0, 256, (2, 3, side, side, 3), np.uint8)
        write_sheet(
            [[Image.fromarray(pixels) for pixels in row] for row in noise], tmp_path / "x.png"
        )
        for y in range(2):
            for x in range(3):
                assert np.array_equal(np.asarray(cut(tmp_path / "x.png", y, x)), noise[y, x])


def test_both_lockings_are_swept_over_the_same_biases_subjects_seeds_and_concepts(
    odd: BaseModel, odd_folder: Path, tmp_path: Path
) -> None:
    by_name = {method.name: method for method in compared(odd, odd_folder)}
    ours, other = by_name["perfusion"], by_name["perfusion, global locking"]
    assert BETAS == (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
    assert ours.schedule == other.schedule == {3: BETAS}  # as many steps as the base model says
    assert ours.seed_count == other.seed_count
    assert isinstance(other, Perfusion)
    assert other.locking == "global"
    store, photos = Store(tmp_path, SIDE), photograph(TUNED[0], side=SIDE)
    (taught,), (again,) = list(store.learn(ours, TUNED[0])), list(store.learn(other, TUNED[0]))
    assert taught.concept.to_bytes() == again.concept.to_bytes()
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1  # trained once
    noise = (["a photo of {}"], [1], 0.5)
    assert taught.draw(*noise)[0].tobytes() != again.draw(*noise)[0].tobytes()
    assert taught.seconds == again.seconds > 0
    assert photos == photograph(TUNED[0], side=SIDE)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_baselines_learn_what_the_base_model_predicts(
    prediction: str, odd: BaseModel, odd_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: dict[str, torch.Tensor] = {}
    add_noise, mse_loss = DDIMScheduler.add_noise, torch.nn.functional.mse_loss

    def noised(self: Any, clean: torch.Tensor, noise: torch.Tensor, t: Any) -> torch.Tensor:
        told.update(clean=clean, noise=noise, velocity=self.get_velocity(clean, noise, t))
        return add_noise(self, clean, noise, t)

    def compared_with(predicted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        told["wanted"] = wanted
        return mse_loss(predicted, wanted)

    monkeypatch.setattr(DDIMScheduler, "add_noise", noised)
    monkeypatch.setattr("benchmarks.paper.methods.baselines.functional.mse_loss", compared_with)
    monkeypatch.setitem(odd.scheduler_config, "prediction_type", prediction)
    method = textual_inversion(odd, odd_folder, Options(schedule={1: (1.0,)}, embedding_rate=1e-3))
    list(method.learn(TUNED[0], photograph(TUNED[0], side=SIDE), seed=0))
    said = {"epsilon": "noise", "v_prediction": "velocity", "sample": "clean"}[prediction]
    assert told["wanted"].shape[1:] == (LATENT_CHANNELS, SIDE // 2, SIDE // 2)
    assert torch.equal(told["wanted"], told[said])


def _quick(*, schedule: Mapping[int, tuple[float, ...]], **more: Any) -> Options:
    """Options of a fortieth of the steps."""
    fewer = {max(1, steps // 40): dials for steps, dials in schedule.items()}
    return Options(schedule=fewer, **more)


@pytest.mark.long
def test_every_method_and_ablation_learns_and_draws_at_the_base_models_size(
    odd: BaseModel, odd_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.paper.methods.choice.Options", _quick)
    subject = TUNED[0]
    photos = photograph(subject, side=SIDE)
    drawn: dict[str, list[Image.Image]] = {}
    for method in (*compared(odd, odd_folder), *ablations(odd, odd_folder, tmp_path)):
        for learned in method.learn(subject, photos, seed=0):
            for dial in method.schedule[learned.steps]:
                images = learned.draw(["a photo of {}", "{} at night"], [1, 2], dial)
                assert [image.size for image in images] == [(SIDE, SIDE)] * 2
                drawn[method.name] = images
            file = tmp_path / method.name / f"{subject.name}.safetensors"
            file.parent.mkdir(exist_ok=True)
            learned.keep(file)
    assert {"dreambooth", "custom diffusion", "perfusion, no gate"} < set(drawn)
    assert len({images[0].tobytes() for images in drawn.values()}) == len(drawn)


@pytest.mark.long
def test_the_short_form_runs_on_any_base_model_and_writes_its_report(
    odd_folder: Path, odd: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.paper.methods.choice.Options", _quick)
    asked = ["--short", "--base-model", str(odd_folder), "--results", str(tmp_path)]
    main(asked)
    folder = tmp_path / kept_name(odd, Evaluator(_EVALUATOR)) / "short"
    told = json.loads((folder / "report" / "results.json").read_text())
    measured = told["similarity"]
    assert list(measured) == [
        "superclass", "perfusion", "perfusion, global locking", "textual inversion", "lora",
    ]  # fmt: skip
    dials = {name: [row["dial"] for row in found[0]["rows"]] for name, found in measured.items()}
    assert dials["perfusion"] == dials["perfusion, global locking"] == list(BETAS)
    for name in ("plane", "subjects", "strengths", "strengths-global", "attention", "two-concepts"):
        with Image.open(folder / "report" / f"{name}.webp") as picture:
            assert picture.format == "WEBP"
    sheets = [file for file in folder.glob("*/*.png") if file.parent.name != "eyes"]
    assert {file.parent.name for file in sheets} >= {"perfusion", "attention", "two-concepts"}
    assert all(cut(sheet, 0, 0).size == (SIDE, SIDE) for sheet in sheets)
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*.json")}
    main(asked)  # all is there: only the report is made again
    after = {file: file.stat().st_mtime_ns for file in folder.rglob("*.json")}
    assert {file for file in after if after[file] != before[file]} == {
        folder / "report" / "results.json", folder / "eyes" / "key.json",
    }  # fmt: skip


def test_another_base_model_another_judge_or_other_defaults_keep_their_results_apart(
    odd: BaseModel,
) -> None:
    evaluator = Evaluator(_EVALUATOR)
    name = kept_name(odd, evaluator)
    faster = copy.copy(odd)
    faster.defaults = replace(odd.defaults, generate={"num_inference_steps": 1})
    assert kept_name(odd, evaluator) == name != kept_name(faster, evaluator)


def test_as_many_images_share_a_step_as_their_size_allows(odd: BaseModel) -> None:
    large = copy.copy(odd)
    assert images_at_once(odd) == 12
    large.unet = SimpleNamespace(config=SimpleNamespace(sample_size=64))
    assert images_at_once(large) == 1
