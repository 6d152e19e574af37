"""A real evaluator, a device with a thread of its own, and a concept that is hardly trained."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.callbacks import RunOnDevice
from perfusion_core.concept import Concept
from perfusion_core.evaluators.similarity import Evaluator
from tests.unit.perfusion_core.conftest import trained_briefly

EVALUATOR = Path(__file__).parents[4] / "models" / "evaluator"


@pytest.fixture(scope="session")
def evaluator() -> Evaluator:
    return Evaluator(EVALUATOR)


@pytest.fixture
def run_on_device() -> Iterator[RunOnDevice]:
    with ThreadPoolExecutor(1) as device:

        def run(act: Any, /) -> Any:
            return device.submit(act).result()

        yield run


@pytest.fixture
def concept(base: BaseModel) -> Concept:
    return trained_briefly(base)
