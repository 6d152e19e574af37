"""How a run of the paper's comparison is planned, and on the user's own subjects and model."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.paper.__main__ import main
from benchmarks.paper.contact import write as write_sheet
from benchmarks.paper.figures.attention import Attention
from benchmarks.paper.figures.composition import Composer, Gallery
from benchmarks.paper.figures.eyes import write_eyes
from benchmarks.paper.figures.sets import Set, sets_of
from benchmarks.paper.folders import SubjectsError, read_subjects
from benchmarks.paper.kept import Store, Work, finish
from benchmarks.paper.measures import background_overlap, pixel_distance
from benchmarks.paper.methods.baselines import Options, custom_diffusion, lora, textual_inversion
from benchmarks.paper.methods.method import BASE_FOLDER
from benchmarks.paper.methods.perfusion import Perfusion
from benchmarks.paper.methods.pipelines import draw, with_loras
from benchmarks.paper.subjects import REPORTED, SHARING, TUNED, acts_of, photograph
from perfusion_core import BaseModel
from perfusion_core.evaluators.similarity import Evaluator
from tests.unit.benchmarks.conftest import SIDE

_EVALUATOR = BASE_FOLDER.parent / "evaluator"
_ONE_STEP = {1: (1.0,)}


def _work(folder: Path, kind: str, name: str, made: list[str]) -> Work:
    def make() -> dict[str, Any]:
        made.append(f"{kind} {name}")
        return {"name": name}

    return Work(kind, (name,), folder / f"{kind}-{name}.json", make)


def test_the_first_of_each_kind_is_timed_first_and_then_all_hours_are_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []
    works = [_work(tmp_path, kind, name, made) for kind in ("ours", "lora") for name in "abc"]
    finish(works)
    assert made == ["ours a", "lora a", "ours b", "ours c", "lora b", "lora c"]
    lines = capsys.readouterr().out.splitlines()
    assert "2 kinds that were not timed yet" in lines[0]
    assert "1 kinds that were not timed yet" in lines[1]
    assert "4 results" in lines[2] and "not timed" not in lines[2]


def test_a_stopped_run_goes_on_and_knows_the_hours_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []
    works = [_work(tmp_path, "ours", name, made) for name in "abcd"]
    finish(works[:2])
    kept = works[0].read()
    works[0].file.write_text(json.dumps({**kept, "wall_seconds": 7200}))
    works[1].file.write_text(json.dumps({**kept, "wall_seconds": 7200}))
    capsys.readouterr()
    finish(works)
    assert made == ["ours a", "ours b", "ours c", "ours d"]
    assert "2 of 4 kept; 2 results, 4.0 hours to come" in capsys.readouterr().out.splitlines()[0]


def test_a_result_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> dict[str, Any]:
        raise RuntimeError("stopped")

    work = Work("ours", ("a",), tmp_path / "a.json", fail)
    with pytest.raises(RuntimeError):
        finish([work])
    assert not work.file.exists()


def _own_subject(folder: Path, name: str, **about: Any) -> Path:
    own = folder / name
    own.mkdir(parents=True)
    told = {"name": name, "superclass": "cat", **about}
    (own / "subject.json").write_text(json.dumps(told))
    Image.new("RGB", (60, 40), "red").save(own / "first.jpg")
    Image.new("RGB", (40, 60), "blue").save(own / "second.png")
    Image.new("L", (60, 40), 255).save(own / "first.mask.png")
    return own


def test_a_folder_of_subjects_gives_square_photos_with_the_masks_that_there_are(
    tmp_path: Path,
) -> None:
    _own_subject(tmp_path, "tom", wearer=True, prompts=["{} in Rome"])
    _own_subject(tmp_path, "ada", prompts=["{} in Paris"])
    ada, tom = read_subjects(tmp_path)
    assert (ada.name, tom.name, tom.wearer, tom.superclass) == ("ada", "tom", True, "cat")
    assert tom.prompts == ("{} in Rome",)
    first, second = photograph(tom, side=32)
    assert first.picture.size == second.picture.size == (32, 32)
    assert first.mask is not None and first.mask.getextrema() == (255, 255)
    assert second.mask is None


def _break_nothing_there(folder: Path) -> None:
    (folder / "tom" / "subject.json").unlink()


def _break_unknown_field(folder: Path) -> None:
    (folder / "tom" / "subject.json").write_text('{"name": "tom", "class": "cat"}')


def _break_prompt(folder: Path) -> None:
    told = {"name": "tom", "superclass": "cat", "prompts": ["a cat"]}
    (folder / "tom" / "subject.json").write_text(json.dumps(told))


def _break_photo(folder: Path) -> None:
    (folder / "tom" / "first.jpg").write_text("no picture")


def _break_mask(folder: Path) -> None:
    (folder / "tom" / "first.jpg").unlink()


def _break_name(folder: Path) -> None:
    (folder / "tom" / "subject.json").write_text('{"name": "ada", "superclass": "cat"}')


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (_break_nothing_there, "lacks subject.json"),
        (_break_unknown_field, "superclass: Field required"),
        (_break_prompt, "needs one {}"),
        (_break_photo, "first.jpg is no picture"),
        (_break_mask, "mask of no photo"),
        (_break_name, 'have the name "ada"'),
    ],
)
def test_a_folder_of_subjects_that_cannot_be_used_is_refused_with_the_file_to_mend(
    broken: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    for name in ("ada", "tom"):
        _own_subject(tmp_path, name)
    broken(tmp_path)
    with pytest.raises(SubjectsError, match=said):
        read_subjects(tmp_path)


def test_the_command_refuses_bad_subjects_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--subjects", str(tmp_path), "--base-model", str(tmp_path / "none")])
    assert "holds 0 subjects" in capsys.readouterr().err


def test_photos_that_share_one_background_share_it_and_others_do_not() -> None:
    def likeness(subject: Any) -> float:
        first, *rest = (photo.picture for photo in photograph(subject, side=64))
        return background_overlap([first], rest)

    assert [subject.superclass for subject in SHARING] == [s.superclass for s in REPORTED[:5]]
    assert likeness(SHARING[0]) > 0.9 > 0.5 > likeness(REPORTED[0])


def test_a_copy_has_no_distance_even_if_it_is_mirrored() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    photo = Image.fromarray(pixels)
    assert pixel_distance([photo], [photo]) == 0
    assert pixel_distance([Image.fromarray(pixels[:, ::-1].copy())], [photo]) == 0
    assert pixel_distance([Image.new("RGB", (64, 64))], [photo]) > 0.3


def test_prompts_that_act_are_no_held_out_ones_and_only_wearers_wear() -> None:
    wearer, other = REPORTED[0], REPORTED[1]
    assert set(acts_of(other)) < set(acts_of(wearer))
    assert not any("wearing" in prompt for prompt in acts_of(other))


def test_fresh_eyes_see_a_shuffled_quarter_without_names_and_the_key_tells_them(
    tmp_path: Path,
) -> None:
    photo = Image.new("RGB", (16, 16), "white")
    images = [Image.new("RGB", (16, 16), (20 * k, 0, 0)) for k in range(8)]
    write_sheet([[photo], images], tmp_path / "x.png")
    prompts = [{"prompt": str(k)} for k in range(8)]
    composed = {"two": [{"subjects": ["a"], "sheet": "x.png", "images": prompts}]}
    write_eyes(composed, tmp_path, tmp_path / "eyes")
    key = json.loads((tmp_path / "eyes" / "key.json").read_text())
    assert len(key) == 2
    assert [told["prompt"] for told in key] != ["0", "1"]
    with Image.open(tmp_path / "eyes" / "eyes-1.png") as sheet:
        assert sheet.getpixel((8, 28)) == (20 * int(key[0]["prompt"]), 0, 0)


def test_compositions_are_side_by_side_painted_worn_and_of_three() -> None:
    by_title = {asked.title: asked for asked in sets_of(REPORTED)}
    assert len(by_title["two concepts"].subjects) == 12
    assert len(by_title["three concepts"].subjects) == 8
    worn = by_title["two concepts, interacting"]
    assert all(w.wearer and hat.superclass == "hat" for w, hat in worn.subjects)
    for asked in by_title.values():
        for subjects in asked.subjects:
            assert all(prompt.count("{}") == len(subjects) for prompt in asked.prompts)


def test_two_loras_together_draw_what_neither_draws_alone(
    odd: BaseModel, odd_folder: Path, tmp_path: Path
) -> None:
    method = lora(odd, odd_folder, Options(schedule=_ONE_STEP, rate=0.05))
    store = Store(tmp_path, SIDE)
    files = [store.file(method, subject, 1) for subject in TUNED[:2]]
    own = {"rank": method.options.rank, "projections": method.options.projections}
    drawn = []
    for chosen in ([files[0]], [files[1]], files):
        pipeline = with_loras(odd, odd_folder, chosen, **own)
        drawn.append(draw(odd, pipeline, ["a photo of a <x> cat"], [1])[0].tobytes())
    assert len(set(drawn)) == 3
    (learned,) = method.learn(TUNED[0], photograph(TUNED[0], side=SIDE), seed=0)
    alone = learned.draw(["a photo of {}"], [1], 1.0)[0]
    assert np.abs(np.asarray(alone, int) - np.frombuffer(drawn[0], np.uint8).reshape(
        SIDE, SIDE, 3)).max() <= 1  # a kept adapter is the learned one  # fmt: skip


def test_custom_diffusion_learns_the_words_of_several_subjects_together(
    odd: BaseModel, odd_folder: Path
) -> None:
    options = Options(schedule=_ONE_STEP, rate=1e-3, embedding_rate=0.1)
    method = custom_diffusion(odd, odd_folder, options)
    shown = [(subject, photograph(subject, side=SIDE)) for subject in TUNED[:2]]
    torch.manual_seed(0)
    (learned,) = method.learn_together(shown, seed=0)
    assert learned.words == ["<x> cat", "<y> car"]
    told = [f"a {word}" for word in learned.words]
    first, second = learned.draw_texts(told, [1, 1])
    assert first.tobytes() != second.tobytes()


@pytest.mark.long
def test_attention_is_read_of_every_method_and_step(
    odd: BaseModel, odd_folder: Path, tmp_path: Path
) -> None:
    steps = {1: (1.0,), 2: (1.0,)}
    word = textual_inversion(odd, odd_folder, Options(schedule=steps, embedding_rate=0.1))
    options = Options(schedule=_ONE_STEP, rate=1e-3, embedding_rate=0.1)
    attention = Attention(
        Store(tmp_path, SIDE),
        Perfusion(odd, schedule={1: (0.7,)}),
        keys_trained=Perfusion(odd, "keys", {1: (0.7,)}, trains_keys=True),
        baselines=[word, custom_diffusion(odd, odd_folder, options)],
        seed_count=1,
    )
    work = attention.work(TUNED[0])
    finish([work])
    found = work.read()["methods"]
    assert list(found) == [
        "superclass", "perfusion", "keys", "textual inversion, 1 steps",
        "textual inversion, 2 steps", "custom diffusion, 1 steps",
    ]  # fmt: skip
    shares = {round(measured["share"], 9) for measured in found.values()}
    assert len(shares) == len(found)
    assert all(0 < measured["share"] + measured["others"] < 1 for measured in found.values())


@pytest.mark.long
def test_a_composition_is_measured_alike_by_every_method(
    odd: BaseModel, odd_folder: Path, tmp_path: Path
) -> None:
    gallery = Gallery(
        odd, Evaluator(_EVALUATOR), Store(tmp_path, SIDE), Perfusion(odd, schedule={1: (0.7,)})
    )
    composer = Composer(gallery, TUNED, seed_count=1)
    asked = Set("two", [TUNED[:2]], ("a photo of a {} next to a {}",))
    options = Options(schedule=_ONE_STEP, rate=1e-3, embedding_rate=0.1)
    joint = custom_diffusion(odd, odd_folder, options)
    added = lora(odd, odd_folder, replace(options, embedding_rate=0.0))
    works = [work for method in (None, joint, added) for work in composer.works(asked, method)]
    finish(works)
    assert [work.kind for work in works] == ["two", "two, custom diffusion", "two, lora"]
    for work in works:
        (image,) = work.read()["images"]
        assert list(image["concepts"]) == [subject.name for subject in TUNED[:2]]
        for measured in image["concepts"].values():
            assert 0 <= measured["colours"] <= 1
            assert isinstance(measured["recognised_outside"], bool)
