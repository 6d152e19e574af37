"""The comparison's tables, and reports of several runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.paper.figures.boxes import draw_boxed
from benchmarks.paper.figures.fronts import composition_front_table, front_table
from benchmarks.paper.figures.report import Found, read_earlier
from benchmarks.paper.figures.sets import BETAS_OF_PAIRS, pairs_at
from benchmarks.paper.figures.tables import composition_table, gain_table, leakage_table
from benchmarks.paper.measures import count_nearest
from benchmarks.paper.methods.choice import ONE_PHOTO
from benchmarks.paper.methods.perfusion import Perfusion
from benchmarks.paper.subjects import DRAWN_BY_PEN, TUNED, Subject, photograph
from benchmarks.verdict import pen
from models.maker.scenes.catalogue import HELD_OUT_SUBJECTS
from perfusion_core import BaseModel, ConceptUse
from tests.unit.benchmarks.conftest import SIDE


def _rows(image: float, background: float = 0.5, dial: float = 0.7) -> list[dict[str, float]]:
    measured = dict.fromkeys(("image", "outside", "colours", "text"), image)
    return [{**measured, "background": background, "dial": dial, "steps": 1}]


def _result(subject: str, *measured: float) -> dict[str, Any]:
    return {"subject": subject, "rows": _rows(*measured)}


def test_one_photos_gain_is_over_the_plain_superclass_and_paired_within_subjects() -> None:
    table = gain_table(
        {
            "superclass": [_result("a", 0.4), _result("b", 0.6)],
            "perfusion": [_result("a", 0.6), _result("b", 0.8), _result("c", 0.1)],
            ONE_PHOTO: [_result("a", 0.58), _result("b", 0.78)],
        }
    )
    assert "| image | +0.180 ± 0.000 | +0.200 ± 0.000 | 90% | +0.010 ± 0.000 |" in table


def test_a_background_leaks_as_far_as_it_is_above_the_plain_superclasss() -> None:
    results = {
        "superclass": [_result("a", 0.4, 0.1), _result("b", 0.4, 0.3)],
        "perfusion, no masks": [_result("a", 0.5, 0.3), _result("b", 0.5, 0.5)],
    }
    assert leakage_table(results).endswith("| +0.200 ± 0.000 |")


def test_paintings_are_counted_apart() -> None:
    def image(prompt: str, present: bool) -> dict[str, Any]:
        found = {"present": present, "recognised": True, "recognised_outside": False}
        return {"prompt": prompt, "text": 0.4, "concepts": {"a": {**found, "colours": 0.5}}}

    images = [image("a photo of a {}", True), image("a painting of a {}", False)]
    lines = composition_table({"two": [{"images": images}]}).splitlines()
    assert lines[2].startswith("| two | 1 | 100% | 100% |")
    assert lines[3].startswith("| two, painted | 1 | 0% | 0% |")


def test_a_front_may_be_of_the_scene_in_the_texts_place() -> None:
    def points(subject: str, *rows: tuple[float, float, float]) -> dict[str, Any]:
        told = [
            {"steps": 1, "dial": k, "text": text, "scene": scene}
            | dict.fromkeys(("image", "outside", "colours"), image)
            for k, (text, scene, image) in enumerate(rows)
        ]
        return {"subject": subject, "rows": told}

    results = {
        # The first dial has the other's text, the second one has its scene.
        "perfusion": [points(s, (0.5, 0.9, 0.6), (0.4, 0.8, 0.7)) for s in "ab"],
        "lora": [points(s, (0.5, 0.8, 0.65)) for s in "ab"],
    }
    by_text, by_scene = (front_table(results, axis).splitlines()[-1] for axis in ("text", "scene"))
    assert by_text.startswith("| lora | 1 | 0 | 0 | +0.000 ± 0.000 | -0.050 ± 0.000 | below |")
    assert by_scene.startswith("| lora | 1 | 0 | 1 | +0.000 ± 0.000 | +0.050 ± 0.000 | above |")


def test_pairs_are_compared_at_equal_text_similarity_and_without_paintings() -> None:
    def pair(text: float, image: float) -> dict[str, Any]:
        concept = {"image": image, "outside": image, "recognised": image > 0.5}
        drawn = {"prompt": "a photo", "text": text, "concepts": {"a": concept, "b": concept}}
        painted = {**drawn, "prompt": "a painting", "text": 9.0}
        return {"images": [drawn, painted]}

    found = {"two concepts": [pair(0.3, 0.9)] * 2}
    found |= {pairs_at(beta): [pair(beta, 1 - beta)] * 2 for beta in BETAS_OF_PAIRS}
    rivals = {f"two concepts, {m}": [pair(0.5, 0.4)] * 2 for m in ("custom diffusion", "lora")}
    line = composition_front_table(found | rivals).splitlines()[-1]
    assert line.startswith("| lora | two concepts at bias 0.5 | +0.000 ± 0.000 | +0.100 ± 0.000 |")


def test_a_report_adds_what_earlier_runs_made_as_todays_plan_would(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    made = {
        "similarity": {"lora": ["1"], "dreambooth": ["2"], "perfusion": ["3"]},
        "sharing": {}, "compositions": {"two": ["5"]}, "attention": {"attention": ["6"]},
    }  # fmt: skip
    told = {
        "of": "model", "made": made, "sharing": {}, "attention": [3], "compositions": {"two": [4]},
        "similarity": {"lora": [1], "dreambooth": [0], "perfusion": [2]},
    }  # fmt: skip
    file.write_text(json.dumps(told))
    planned = {
        **made,
        "similarity": {"perfusion": ["3"], "lora": ["1"], "dreambooth": ["other options"]},
        "compositions": {"two": ["5"], "three": ["7"]},
    }
    own = Found("model", planned, {"perfusion": [{"new": 5}]}, compositions={"three": [{"new": 6}]})
    found = own.with_earlier(read_earlier(file, of="model"))
    assert found.similarity == {"perfusion": [{"new": 5}], "lora": [1]}
    assert found.compositions == {"two": [4], "three": [{"new": 6}]}
    assert found.attention == [3]


def test_a_report_never_mixes_results_of_two_base_models(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"of": "another"}))
    with pytest.raises(ValueError, match="not of this base model"):
        read_earlier(tmp_path / "results.json", of="model")


def test_a_pair_in_boxes_changes_nothing_between_and_around_them(odd: BaseModel) -> None:
    uses = {}
    for subject in TUNED[:2]:
        photos = photograph(subject, side=SIDE)
        (learned,) = Perfusion(odd, schedule={1: (0.7,)}).learn(subject, photos, seed=0)
        uses[subject.name] = ConceptUse(learned.concept)
    prompt = "a photo of a {} next to a {} on the beach"
    first, second = (np.asarray(image) for image in draw_boxed(odd, uses, [prompt, prompt], [1, 2]))
    differs = (first != second).any(-1)
    assert differs[SIDE // 3 :, : SIDE // 2].any() and differs[SIDE // 3 :, SIDE // 2 :].any()
    assert not differs[: SIDE // 4].any()
    assert not differs[:, SIDE // 2 - 1].any()


def test_pen_drawings_show_the_first_look_of_every_held_out_super_category() -> None:
    assert sorted(subject.superclass for subject in DRAWN_BY_PEN) == sorted(HELD_OUT_SUBJECTS)
    for drawn in DRAWN_BY_PEN:
        plain = Subject(drawn.art.stem, drawn.superclass)
        by_pen, without = (
            np.asarray(photograph(subject, 1, side=128)[0].picture.convert("L"), int)
            for subject in (drawn, plain)
        )
        assert (by_pen < 40).sum() > (without < 40).sum() + 100  # the dark line


def test_a_viewers_answers_are_counted_once_all_images_have_one(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(json.dumps(["owl", "cat", "owl"]))
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(["owl", "owl", "owl"]))
    assert pen.counted(tmp_path) == "A viewer gave 2 of 3 images to the right photo."
    answers.write_text(json.dumps(["owl", "owl"]))
    with pytest.raises(ValueError, match="for each of 3"):
        pen.counted(tmp_path)


def test_the_nearest_photos_on_average_are_an_images_subject() -> None:
    along, across = torch.eye(2)
    known = {"owl": torch.stack([along, along]), "cat": torch.stack([across, along])}
    seen = torch.stack([along, across, across])
    assert count_nearest(seen, known, ["owl", "cat", "cat"]) == 3
    assert count_nearest(seen, known, ["owl", "cat", "owl"]) == 2
