"""The calibration of verdicts: what people see of it, and that the thresholds are honest."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from benchmarks.paper.subjects import TUNED
from benchmarks.verdict import fit
from benchmarks.verdict.__main__ import main
from benchmarks.verdict.concepts import ALL, BAD, PROMPTS, SEEDS, USUAL, pictures_of
from benchmarks.verdict.fit import Case, calibrate, choose, left_out, says_good
from benchmarks.verdict.matching import MATCHED, NAMES, count_right, write_match
from benchmarks.verdict.sheets import read_labels, write_sheets
from perfusion_core.base_model import BaseModel
from perfusion_core.config import TrainConfig
from perfusion_core.evaluation.calibration import NOTHING_KNOWN, Thresholds, read_calibration
from perfusion_core.evaluation.eval_prompts import PROOF, curve_prompts, eval_schedule
from perfusion_core.evaluation.verdict import Figures
from perfusion_core.text.templates import TEMPLATES

BASE = Path(__file__).parents[3] / "models/base"


def case(name: str, *, good: bool, gain: float, present: int = 8, kept: float = 1.0) -> Case:
    figures = Figures(
        evaluator="clip", judging="now", strength=0.9, count=8, image=gain, plain_image=0.0,
        ceiling=1.0, text=kept, plain_text=1.0, present=present,
    )  # fmt: skip
    return Case(name, (True,) * (6 if good else 5) + (False,) * (2 if good else 3), figures)


def test_there_are_sixteen_usual_concepts_of_held_out_looks_and_eight_made_badly() -> None:
    held_out = json.loads((BASE / "data.json").read_text())["held_out_looks"]
    looks_of = {tuple(look.split("/fluent-emoji-3d/")) for look in held_out}
    assert {(made.subject.superclass, made.subject.name) for made in ALL} <= looks_of
    assert len({made.subject.superclass for made in USUAL}) == len(USUAL) == 16
    ways = [made.way for made in BAD]
    assert len(ways) == 8
    assert all(ways.count(way) == 2 for way in ways)
    assert not {made.subject for made in USUAL} & set(TUNED)
    assert tuple(made.name for made in MATCHED) == NAMES
    assert len({made.name for made in ALL}) == 24


def test_people_see_places_and_seeds_that_neither_training_nor_judging_has() -> None:
    config = TrainConfig(max_train_steps=20_000)
    judged = (*PROOF, *eval_schedule(config).eval_prompts, *curve_prompts(config, steps=20_000))
    assert not set(SEEDS) & {eval_prompt.seed for eval_prompt in judged}
    places = {prompt.removeprefix("a photo of {}") for prompt in PROMPTS} - {""}
    assert len(places) == 4
    for text in (*TEMPLATES, *(eval_prompt.prompt for eval_prompt in judged)):
        assert not any(place in text for place in places)


def test_bad_concepts_are_made_of_bad_pictures_and_masks() -> None:
    usual, wrong = (pictures_of(made, side=32) for made in (USUAL[9], BAD[2]))
    assert USUAL[9].subject == BAD[2].subject
    assert usual[0] == wrong[0]
    assert all(
        a.getpixel((16, 16)) != b.getpixel((16, 16))
        for a, b in zip(usual[1], wrong[1], strict=True)
    )
    mixed, plain = (pictures_of(made, side=32) for made in (BAD[4], USUAL[5]))
    assert USUAL[5].subject == BAD[4].subject
    assert [a == b for a, b in zip(mixed[0], plain[0], strict=True)] == [True] * 3 + [False] * 2


def test_thresholds_lie_between_the_good_and_the_others_in_the_widest_gap() -> None:
    cases = [case(f"g{k}", good=True, gain=0.6 + k / 100) for k in range(9)]
    cases += [case(f"b{k}", good=False, gain=0.2 + k / 100) for k in range(9)]
    assert choose(cases) == Thresholds(gain=0.44, presence=0, kept=0)
    assert left_out(cases) == [case.good for case in cases]


def test_a_figure_that_tells_nothing_more_is_not_asked_for() -> None:
    cases = [case(f"g{k}", good=True, gain=0.7, kept=0.8 + k / 100) for k in range(5)]
    cases += [case(f"b{k}", good=False, gain=0.3, present=2, kept=0.7 + k / 100) for k in range(5)]
    assert sum(value > 0 for value in vars(choose(cases)).values()) == 1


def test_each_figure_can_be_the_one_that_decides() -> None:
    good = [case(f"g{k}", good=True, gain=0.7) for k in range(4)]
    bad = [
        case("unlike", good=False, gain=0.2),
        case("absent", good=False, gain=0.7, present=3),
        case("overfit", good=False, gain=0.7, kept=0.3),
    ]
    thresholds = choose([*good, *bad])
    assert all(value > 0 for value in vars(thresholds).values())
    assert all(says_good(each.figures, thresholds) for each in good)
    assert not any(says_good(each.figures, thresholds) for each in bad)


def test_where_none_is_good_nothing_measured_is_enough() -> None:
    cases = [case(f"b{k}", good=False, gain=0.1 * k) for k in range(9)]
    assert choose(cases) == Thresholds(gain=NOTHING_KNOWN, presence=0, kept=0)
    assert left_out(cases) == [False] * 9


def test_mixed_pictures_raise_no_threshold() -> None:
    cases = [case(f"g{k}", good=True, gain=0.6) for k in range(3)]
    cases += [case(f"b{k}", good=False, gain=0.2) for k in range(3)]
    mixed = case("mixed", good=False, gain=0.9)
    mixed = Case(mixed.name, mixed.labels, replace(mixed.figures, ceiling=0.01))
    assert choose([*cases, mixed]) == choose(cases)
    assert left_out([*cases, mixed]) == [True] * 3 + [False] * 4


def test_a_case_is_tried_by_thresholds_that_have_not_seen_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases = [case(f"c{k}", good=k % 2 == 0, gain=0.1 * k) for k in range(6)]
    seen: list[set[str]] = []

    def chosen(of: list[Case]) -> Thresholds:
        seen.append({each.name for each in of})
        return Thresholds(gain=0.5, presence=0, kept=0)

    monkeypatch.setattr(fit, "choose", chosen)
    left_out(cases)
    everyone = {case.name for case in cases}
    assert seen == [everyone - {case.name} for case in cases]


def test_agreement_with_figures_that_tell_nothing_is_told_by_what_was_left_out() -> None:
    """What is chosen on all of them looks better than it is."""
    on_all = alone = 0
    for seed in range(6):
        chance = Random(seed)
        cases = [case(f"c{k}", good=k % 2 == 0, gain=chance.random()) for k in range(12)]
        told = calibrate(cases, base_model="base")["agreement"]
        assert told["of"] == 12
        on_all, alone = on_all + told["all"], alone + told["left_out"]
    assert alone <= 36 + 6  # of 72: chance
    assert on_all >= alone + 6


def test_figures_of_two_evaluators_are_not_calibrated_together() -> None:
    one, other = case("a", good=True, gain=0.7), case("b", good=False, gain=0.1)
    strange = Case(other.name, other.labels, Figures(**{**vars(other.figures), "evaluator": "x"}))
    with pytest.raises(ValueError, match="in different ways"):
        calibrate([one, strange], base_model="base")


def _coloured(count: int, start: int) -> list[Image.Image]:
    return [Image.new("RGB", (32, 32), (start, 20 * k, 0)) for k in range(count)]


def test_labels_are_given_to_shuffled_images_and_come_back_in_their_order(tmp_path: Path) -> None:
    shown = {name: (_coloured(5, 250), _coloured(8, k)) for k, name in enumerate("abcd")}
    write_sheets(shown, tmp_path, shuffle=1)
    with pytest.raises(ValueError, match="needs true or false"):
        read_labels(tmp_path)
    key = json.loads((tmp_path / "key.json").read_text())
    assert [sheet["name"] for sheet in key.values()] != sorted(shown)
    assert any(sheet["images"] != list(range(8)) for sheet in key.values())
    # Somebody who sees image 3 of every concept, wherever it lies on its sheet.
    told = {sheet: [k == 3 for k in listed["images"]] for sheet, listed in key.items()}
    (tmp_path / "labels.json").write_text(json.dumps(told))
    assert read_labels(tmp_path) == {name: tuple(k == 3 for k in range(8)) for name in shown}
    for sheet, listed in key.items():
        page = Image.open(tmp_path / f"{sheet}.png")
        shown_first = page.getpixel((6 + 128, page.height - 2 * (256 + 22 + 6) + 22 + 128))
        assert shown_first == ("abcd".index(listed["name"]), 20 * listed["images"][0], 0)


def test_a_sheet_that_is_made_later_comes_behind_those_that_are_labelled(tmp_path: Path) -> None:
    first = {name: (_coloured(5, 250), _coloured(8, 0)) for name in "bd"}
    write_sheets(first, tmp_path, shuffle=1)
    told = {"sheet-01": [True] * 8, "sheet-02": [False] * 8}
    (tmp_path / "labels.json").write_text(json.dumps(told))
    before = read_labels(tmp_path)
    write_sheets({**first, "a": (_coloured(5, 250), _coloured(8, 0))}, tmp_path, shuffle=1)
    with pytest.raises(ValueError, match="sheet-03 needs true or false"):
        read_labels(tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps({**told, "sheet-03": [True] * 8}))
    assert read_labels(tmp_path) == {**before, "a": (True,) * 8}


def test_images_are_given_to_shuffled_photos_and_counted(tmp_path: Path) -> None:
    photos = {name: Image.new("RGB", (32, 32), (0, 0, 40 * k)) for k, name in enumerate("abcdef")}
    images = {name: [photo, photo] for name, photo in photos.items()}
    write_match(photos, images, tmp_path, shuffle=3)
    with pytest.raises(ValueError, match="needs the number of a photo for each of 12 images"):
        count_right(tmp_path)
    page = Image.open(tmp_path / "match.png")
    above = [page.getpixel((6 + k * 206 + 100, 106)) for k in range(6)]
    top = 200 + 3 * 6 + 22 + 128
    below = [page.getpixel((6 + k % 4 * 262 + 128, top + k // 4 * 284)) for k in range(12)]
    answers = [above.index(colour) + 1 for colour in below]
    assert answers != sorted(answers)
    (tmp_path / "match.json").write_text(json.dumps(answers))
    assert count_right(tmp_path) == (12, 12)
    (tmp_path / "match.json").write_text(json.dumps([*answers[:-1], 7]))
    assert count_right(tmp_path) == (11, 12)


@pytest.mark.long
def test_the_command_teaches_draws_and_calibrates_a_tiny_base_model_and_goes_on(
    odd_folder: Path, odd: BaseModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["owl", "cat-face, ten steps"]
    options = ["--base-model", str(odd_folder), "--kept", str(tmp_path)]
    main(["train", *names, *options])
    (folder,) = tmp_path.iterdir()
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(before) == 2 * (1 + 8)
    main(["train", *names, *options])
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    main(["sheets", *names, *options])
    with pytest.raises(SystemExit):
        main(["fit", *names, *options])
    key = json.loads((folder / "key.json").read_text())
    told = {sheet: [listed["name"] == "owl"] * 8 for sheet, listed in key.items()}
    (folder / "labels.json").write_text(json.dumps(told))
    try:
        main(["fit", *names, *options])
        calibration = read_calibration(odd_folder)
        assert calibration is not None
        assert calibration.base_model == odd.fingerprint
        assert BaseModel.load(odd_folder, device="cpu").calibration == calibration
    finally:
        (odd_folder / "calibration.json").unlink(missing_ok=True)
    assert "where the concept itself was left out" in capsys.readouterr().out
