"""What a worker tells while it loads its models, and registers when it has."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from diffusers import DiffusionPipeline

from perfusion_core.base_model import BaseModel
from perfusion_core.covariance.captions import captions
from perfusion_core.covariance.once import alone
from service import base_models
from service import workers as alive
from service.statuses import LoadingPhase, LoadingState
from service.wiring import Service
from tests.unit.perfusion_core.conftest import tiny_pipeline
from tests.unit.worker.staging import wait_until, workers
from worker import context as composition
from worker.embedded import Embedded
from worker.models.base_model import covariance_folder
from worker.models.loader import ModelLoader


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


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """A tiny Stable Diffusion 1.x, saved as diffusers saves it, without a covariance."""
    tiny_pipeline("sd1").save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def states_until_decided(loader: ModelLoader) -> list[LoadingState]:
    """Start to load, and return each state that a heartbeat of every moment would have told."""
    seen: list[LoadingState] = []
    loader.start()
    while not loader.wait(timeout_seconds=0.001) and loader.state.phase is not LoadingPhase.FAILED:
        if loader.state not in seen:
            seen.append(loader.state)
    return [*seen, loader.state]


def test_a_worker_says_that_it_estimates_the_covariance_and_a_second_one_reads_it(
    make_service: Callable[..., Service], tiny_folder: Path, tmp_path: Path
) -> None:
    options = {"base_model": str(tiny_folder), "segmenter": "none"}
    service = make_service(**options)
    seen = states_until_decided(ModelLoader(service))
    estimating = [state for state in seen if state.phase is LoadingPhase.ESTIMATING]
    assert len(estimating) > 3
    shares = [state.progress for state in estimating]
    assert shares == sorted(shares, key=float)
    assert "of 10,000 captions" in estimating[0].detail
    second = states_until_decided(ModelLoader(service))
    assert LoadingPhase.ESTIMATING not in {state.phase for state in second}


def test_a_worker_waits_for_another_that_estimates_the_same_covariance(
    make_service: Callable[..., Service], tiny_folder: Path
) -> None:
    other = BaseModel.from_pipeline(
        DiffusionPipeline.from_pretrained(tiny_folder), name="tiny", device="cpu"
    )
    other.estimate_covariance(captions(300, known=other.knows_word))
    service = make_service(base_model=str(tiny_folder), segmenter="none")
    loader = ModelLoader(service)
    file = other.covariance_path(covariance_folder(service.settings))
    with alone(file):
        loader.start()
        assert not loader.wait(timeout_seconds=3)
        assert loader.state.phase is LoadingPhase.LOADING
        other.covariance.save(file)
    assert loader.wait(timeout_seconds=60)
    assert loader.base().covariance_fingerprint == other.covariance_fingerprint


def test_a_base_model_that_is_not_there_is_told_by_its_sentence(
    make_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = make_service(base_model=str(tmp_path / "nowhere"))
    loader = ModelLoader(service)
    worker = Embedded(replace(composition.build(service), model_loader=loader), slots={})
    worker.start()
    try:
        wait_until(lambda: [each.phase for each in alive.loading(service)] == ["failed"])
        (told,) = alive.loading(service)
        assert str(tmp_path / "nowhere") in told.detail
        assert alive.live(service) == []
    finally:
        worker.stop(drain_seconds=0.1)
    assert alive.loading(service) == []


def test_an_evaluator_that_is_not_there_is_a_warning_and_stops_no_work(
    make_service: Callable[..., Service], base: BaseModel, tmp_path: Path
) -> None:
    service = make_service(evaluator=str(tmp_path), segmenter="none")
    with workers(service, base) as make:
        make()
    (warning,) = base_models.warnings(service)
    assert "Concepts are not judged." in warning
    assert base_models.describe(service).evaluator is None
