"""A training's owner learns before the first step what may be wrong with pictures and word."""

import pytest
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.config import TrainConfig
from perfusion_core.training.trainer import train
from service.statuses import JobStatus, Queue
from service.wiring import Service
from tests.unit.perfusion_core.conftest import drawing
from tests.unit.worker.staging import accept_training, look_at
from worker.context import WorkerContext
from worker.jobs import teaching_warnings
from worker.runner import Runner


def test_a_training_without_masks_is_warned_of_and_ends_as_any_other(
    service: Service, context: WorkerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, warnings = [], teaching_warnings.warnings

    def watch(*given: object, **options: object) -> list[dict[str, object]]:
        told.append(look_at(service, job_id).progress.step)
        return warnings(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(teaching_warnings, "warnings", watch)
    job_id = accept_training(service)
    Runner(context).run(Queue.TRAIN)
    job = look_at(service, job_id)
    assert job.status is JobStatus.SUCCEEDED and told == [0]
    (warning,) = job.warnings
    assert warning.type == "/problems/uniform-masks"
    assert warning.detail.startswith("Picture 1: Nothing says where the object is")
    assert [concept.name for concept in warning.concepts] == ["rex"]


def test_equal_problems_are_told_once_with_their_pictures(base: BaseModel) -> None:
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (16, 16, 48, 48))
    training = train(
        base,
        [drawing(), drawing(), Image.effect_noise((32, 32), 90)],
        name="rex",
        superclass="axolotl",
        config=TrainConfig(resolution=64),
        masks=[mask, mask, None],
    )
    word, unmasked, others = teaching_warnings.warnings(
        training, searched=True, concept_id="concept_1"
    )
    assert word["type"] == "/problems/unfamiliar-superclass"
    assert word["detail"].startswith("'axolotl' is made of 6 pieces")
    assert word["concepts"] == others["concepts"]
    assert unmasked["type"] == "/problems/uniform-masks"
    assert unmasked["detail"].startswith("Picture 3: No axolotl was found")
    assert others["type"] == "/problems/picture-findings"
    assert others["detail"].startswith("Pictures 1, 2: The part around the object has 50 pixels")
    assert "Picture 2: This picture is nearly the same as picture 1." in others["detail"]
    assert "Picture 3: The part around the object has 32 pixels" in others["detail"]
    assert others["concepts"] == [{"id": "concept_1", "name": "rex"}]
