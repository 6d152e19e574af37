"""Presence: a concept is found wherever it is in an image, by its own measure."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from api.demo.subjects import SUBJECTS, photograph
from perfusion_core.base_model import BaseModel
from perfusion_core.concept import Concept
from perfusion_core.evaluation.curve import PRESENT_GAIN, Curve, Point, Similarity, present_from
from perfusion_core.evaluation.record import Evaluation, EvaluatorRef
from perfusion_core.evaluators.presence import presences, windows
from perfusion_core.evaluators.similarity import Evaluator
from tests.unit.perfusion_core.test_conditioning import concept_like


def curve(*, floor: float, best: float) -> Curve:
    points = (Point(0.3, Similarity((floor + best) / 2, 0.2)), Point(0.75, Similarity(best, 0.2)))
    return Curve(prompts=("a {}",), superclass=Similarity(floor, 0.2), ceiling=1.0, points=points)


def taught(base: BaseModel, evaluator: Evaluator, number: int) -> tuple[Concept, list[Image.Image]]:
    """A concept with the reference that its photos give, and those photos."""
    photos = [photo.picture for photo in photograph(SUBJECTS[number])]
    reference = evaluator.embed_images(photos).mean(0).numpy()
    found = Evaluation(
        evaluator=evaluator.ref, reference=reference, curve=curve(floor=0.2, best=0.8)
    )
    return replace(concept_like(base, "robot"), evaluation=found), photos


def test_the_windows_of_a_square_are_the_whole_its_corners_and_its_nine_halves() -> None:
    boxes = list(windows(64, 64))
    assert boxes[0] == (0, 0, 64, 64)
    assert boxes[1:5] == [(0, 0, 48, 48), (16, 0, 64, 48), (0, 16, 48, 64), (16, 16, 64, 64)]
    assert len(boxes) == 1 + 4 + 9 and (16, 16, 48, 48) in boxes


@pytest.mark.parametrize(
    ("width", "height"), [(96, 64), (64, 100), (2048, 32), (33, 35), (512, 512)]
)
def test_windows_are_square_inside_reach_both_ends_and_are_few(width: int, height: int) -> None:
    boxes = list(windows(width, height))
    assert len(boxes) <= 3 * 25
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        assert right - left == bottom - top
    assert min(box[0] for box in boxes) == 0 and max(box[2] for box in boxes) == width
    assert min(box[1] for box in boxes) == 0 and max(box[3] for box in boxes) == height


def test_a_concept_in_a_corner_is_found_by_a_window_and_belongs_to_its_own_pictures(
    shipped: BaseModel, evaluator: Evaluator
) -> None:
    robot, photos = taught(shipped, evaluator, 0)
    owl, _ = taught(shipped, evaluator, 1)
    scene = Image.new("RGB", (512, 512), (150, 205, 240))
    scene.paste(photos[0].resize((256, 256)), (256, 256))
    found = presences(evaluator, scene, {"robot": robot, "owl": owl})
    assert robot.reference is not None
    whole = float(np.dot(evaluator.embed_images([scene])[0].numpy(), robot.reference))
    assert found["robot"].score > whole + 0.1
    assert found["robot"].score > found["owl"].score
    empty = presences(evaluator, Image.new("RGB", (512, 512), (150, 205, 240)), {"robot": robot})
    assert found["robot"].score > empty["robot"].score + 0.1


def test_what_is_present_is_decided_by_the_concepts_own_curve(
    shipped: BaseModel, evaluator: Evaluator
) -> None:
    robot, photos = taught(shipped, evaluator, 0)
    assert robot.evaluation is not None

    def present(*, floor: float, best: float) -> bool:
        found = replace(robot.evaluation, curve=curve(floor=floor, best=best))
        judged = replace(robot, evaluation=found)
        return presences(evaluator, photos[1], {"x": judged})["x"].present

    assert present_from(curve(floor=0.2, best=0.8)) == pytest.approx(0.2 + PRESENT_GAIN * 0.6)
    assert present(floor=-0.5, best=0.3)
    assert not present(floor=0.99, best=1.05)


def test_a_concept_that_cannot_be_told_is_left_out(
    shipped: BaseModel, evaluator: Evaluator
) -> None:
    robot, photos = taught(shipped, evaluator, 0)
    assert robot.evaluation is not None
    other = EvaluatorRef(name="other", fingerprint="0" * 32)
    cannot = {
        "never judged": replace(robot, evaluation=None),
        "no curve": replace(robot, evaluation=replace(robot.evaluation, curve=None)),
        "another evaluator": replace(robot, evaluation=replace(robot.evaluation, evaluator=other)),
        "like its superclass": replace(
            robot, evaluation=replace(robot.evaluation, curve=curve(floor=0.5, best=0.51))
        ),
    }
    assert presences(evaluator, photos[0], cannot) == {}
