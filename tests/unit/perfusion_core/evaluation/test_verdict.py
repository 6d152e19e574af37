"""Verdicts: by a calibration that holds for these very figures, and none where there is none."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfusion_core.errors import BaseModelError
from perfusion_core.evaluation.calibration import (
    CALIBRATION_FILE,
    NOTHING_KNOWN,
    Calibration,
    Thresholds,
    read_calibration,
)
from perfusion_core.evaluation.curve import Curve, Point, Proof, Similarity
from perfusion_core.evaluation.record import Evaluation, EvaluatorRef
from perfusion_core.evaluation.verdict import Figures, Verdict, figures_of, read_figures, verdict

CALIBRATION = Calibration(
    base_model="base",
    evaluator="clip",
    judging="now",
    thresholds=Thresholds(gain=0.5, presence=0.75, kept=0.5),
)
GOOD = Figures(
    evaluator="clip",
    judging="now",
    strength=0.935,
    count=8,
    image=0.7,
    plain_image=0.3,
    ceiling=0.8,
    text=0.3,
    plain_text=0.4,
    present=7,
)


def judge(
    figures: Figures | None = GOOD,
    *,
    base_model: str = "base",
    calibration: Calibration | None = CALIBRATION,
) -> Verdict:
    return verdict(figures, superclass="robot", base_model=base_model, calibration=calibration)


def test_a_concept_whose_figures_all_reach_the_thresholds_is_good() -> None:
    judged = judge()
    assert judged.quality == "good"
    assert "7 of 8 images show it" in judged.reasons[0]
    at_the_thresholds = replace(GOOD, image=0.55, present=6, text=0.2)
    assert judge(at_the_thresholds).quality == "good"


@pytest.mark.parametrize(
    ("changes", "quality", "advice"),
    [
        ({"image": 0.54}, "weak", "more steps"),
        ({"present": 5}, "weak", "more steps"),
        ({"text": 0.19}, "overfit", "fewer steps"),
        ({"image": 0.4, "text": 0.1}, "weak", "more steps"),
    ],
)
def test_one_figure_below_its_threshold_is_enough_and_what_to_do_is_said(
    changes: dict[str, float], quality: str, advice: str
) -> None:
    judged = judge(replace(GOOD, **changes))  # type: ignore[arg-type]
    assert judged.quality == quality
    assert any("Teach it again" in reason and advice in reason for reason in judged.reasons)


def test_pictures_of_different_things_are_said_to_be_so_whatever_the_images_look_like() -> None:
    mixed = replace(GOOD, image=0.8, plain_image=0.3, ceiling=0.31)
    assert mixed.gain == 0
    judged = judge(mixed)
    assert judged.quality == "weak"
    assert (
        "0.31 to each other and 0.30 to a plain robot: they seem to show different things"
        in (judged.reasons[0])
    )
    assert "of nothing but itself" in judged.reasons[1]
    asks_for_nothing = replace(CALIBRATION, thresholds=Thresholds(gain=0, presence=0, kept=0))
    assert judge(mixed, calibration=asks_for_nothing).quality == "weak"
    assert judge(replace(mixed, ceiling=0.33)).quality == "good"


def test_where_people_knew_nothing_again_no_concept_is_said_to_be_known() -> None:
    nothing = replace(CALIBRATION, thresholds=Thresholds(gain=NOTHING_KNOWN, presence=0, kept=0))
    judged = judge(calibration=nothing)
    assert judged.quality == "weak"
    assert "80% of the way" in judged.reasons[0]
    assert "people knew none of the concepts again" in judged.reasons[0]


def test_a_concept_that_is_neither_here_nor_there_is_told_both() -> None:
    assert len(judge(replace(GOOD, image=0.35, text=0.05)).reasons) == 4


def test_a_weak_concept_is_told_a_number_of_images_that_would_do() -> None:
    calibration = replace(CALIBRATION, thresholds=Thresholds(gain=0, presence=0.55, kept=0))
    judged = judge(replace(GOOD, present=4), calibration=calibration)
    assert judged.quality == "weak"
    assert "4 of 8 images show it; a good concept is in at least 5." in judged.reasons[0]
    assert judge(replace(GOOD, present=5), calibration=calibration).quality == "good"


def test_the_thresholds_are_the_calibrations() -> None:
    strict = replace(CALIBRATION, thresholds=Thresholds(gain=0.9, presence=0, kept=0))
    assert judge(calibration=strict).quality == "weak"
    lax = replace(CALIBRATION, thresholds=Thresholds(gain=0, presence=0, kept=0))
    assert judge(replace(GOOD, image=0.0, present=0, text=0.0), calibration=lax).quality == "good"


UNCALIBRATED = {
    "no calibration": ((GOOD, "base", None), "on this base model"),
    "another base model": ((GOOD, "other", CALIBRATION), "another base model"),
    "another evaluator": ((replace(GOOD, evaluator="x"), "base", CALIBRATION), "evaluator"),
    "another judging": ((replace(GOOD, judging="then"), "base", CALIBRATION), "earlier release"),
    "no proof": ((replace(GOOD, judging=None, count=0), "base", CALIBRATION), "earlier release"),
    "a row without figures": ((None, "base", CALIBRATION), "earlier release"),
    "one picture": ((replace(GOOD, ceiling=None), "base", CALIBRATION), "one picture"),
}


@pytest.mark.parametrize("what", UNCALIBRATED)
def test_where_no_calibration_holds_there_is_no_verdict_and_it_says_why(what: str) -> None:
    (figures, base_model, calibration), why = UNCALIBRATED[what]
    judged = judge(figures, base_model=base_model, calibration=calibration)
    assert judged.quality == "uncalibrated"
    assert why in judged.reasons[0]
    if figures is not None:
        assert "0.70 to the pictures, where a plain robot has 0.30" in judged.reasons[1]


@given(
    st.builds(
        Figures,
        evaluator=st.sampled_from(["clip", "x"]),
        judging=st.sampled_from(["now", "then", None]),
        strength=st.floats(0.05, 0.95),
        count=st.just(8),
        image=st.floats(-1, 1),
        plain_image=st.floats(-1, 1),
        ceiling=st.one_of(st.none(), st.floats(-1, 1)),
        text=st.floats(-1, 1),
        plain_text=st.floats(-1, 1),
        present=st.integers(0, 8),
    )
)
def test_every_verdict_gives_its_reasons_in_sentences(figures: Figures) -> None:
    judged = judge(figures)
    assert judged.reasons
    assert all(reason[0].isupper() and reason.endswith(".") for reason in judged.reasons)


SHARES = st.tuples(st.floats(0, 1), st.integers(0, 8), st.floats(0, 1))


@given(SHARES, SHARES)
def test_better_figures_never_make_a_verdict_worse(
    one: tuple[float, int, float], other: tuple[float, int, float]
) -> None:
    def good(image: float, present: int, text: float) -> bool:
        return judge(replace(GOOD, image=image, present=present, text=text)).quality == "good"

    better = max(one[0], other[0]), max(one[1], other[1]), max(one[2], other[2])
    assert good(*better) or not good(*one)


def found(*, proof: bool) -> Evaluation:
    images = (0.4, 0.6, 0.8, 0.8)
    return Evaluation(
        evaluator=EvaluatorRef("evaluator", "clip"),
        reference=np.ones(4, np.float32),
        curve=Curve(
            prompts=("a {}",),
            superclass=Similarity(0.2, 0.4),
            ceiling=0.9,
            points=(Point(0.5, Similarity(0.4, 0.4)), Point(0.9, Similarity(0.8, 0.4))),
            proof=Proof(
                judging="now",
                images=images,
                windows=(0.45, 0.65, 0.8, 0.85),
                text=0.3,
                superclass=Similarity(0.3, 0.35),
            )
            if proof
            else None,
        ),
    )


def test_figures_are_the_proofs_and_presence_is_counted_on_its_images() -> None:
    figures = figures_of(found(proof=True))
    assert figures is not None
    assert (figures.strength, figures.count, figures.judging) == (0.9, 4, "now")
    assert (figures.image, figures.plain_image) == (pytest.approx(0.65), 0.3)
    assert figures.present == 3  # half-way from 0.3 to 0.65 is 0.475
    assert figures.gain == pytest.approx(0.35 / 0.6)
    assert figures.kept == pytest.approx(0.3 / 0.35)


def test_a_curve_of_an_earlier_release_gives_its_own_figures() -> None:
    figures = figures_of(found(proof=False))
    assert figures is not None
    assert (figures.image, figures.plain_image, figures.judging) == (0.8, 0.2, None)
    assert judge(figures).quality == "uncalibrated"


def test_figures_come_back_from_a_row_and_what_another_release_wrote_does_not() -> None:
    told = json.loads(json.dumps(GOOD.to_json()))
    assert read_figures(told) == GOOD
    assert read_figures({**told, "new": 1}) is None
    assert read_figures(None) is None


def test_a_calibration_is_read_from_the_base_models_folder_with_its_labels_beside_it(
    tmp_path: Path,
) -> None:
    assert read_calibration(tmp_path) is None
    text = json.dumps({**CALIBRATION.to_json(), "concepts": [{"name": "owl"}]})
    (tmp_path / CALIBRATION_FILE).write_text(text, encoding="utf-8")
    assert read_calibration(tmp_path) == CALIBRATION


@pytest.mark.parametrize(
    "changes",
    [
        {"thresholds": {"gain": 0.5}},
        {"thresholds": {"gain": 2, "presence": 0, "kept": 0}},
        {"evaluator": None},
    ],
)
def test_a_calibration_that_cannot_be_read_is_an_error_with_its_file(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    file = tmp_path / CALIBRATION_FILE
    file.write_text(json.dumps({**CALIBRATION.to_json(), **changes}), encoding="utf-8")
    with pytest.raises(BaseModelError, match="is no calibration"):
        read_calibration(tmp_path)
