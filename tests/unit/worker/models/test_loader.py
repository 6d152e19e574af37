"""What a worker registers of the base model that it has loaded."""

from collections.abc import Callable

from perfusion_core.base_model import BaseModel
from service import base_models
from service.wiring import Service
from tests.unit.worker.staging import workers


def test_a_worker_tells_what_judges_and_what_masks_by_names_without_folders(
    make_service: Callable[..., Service], base: BaseModel
) -> None:
    service = make_service(evaluator="auto", segmenter="none")
    with workers(service, base) as make:
        make()
        described = base_models.describe(service)
    assert described.name == base.name
    assert described.evaluator == "evaluator"  # the shipped one
    assert described.segmenter is None
