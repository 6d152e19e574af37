"""An engine that runs, and what tests ask of it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.config import GenerateConfig
from perfusion_core.sampling import sampler
from perfusion_core.sampling.sampler import ImageRequest
from worker.engine.engine import Engine


@pytest.fixture
def engine(base: BaseModel) -> Iterator[Engine]:
    engine = Engine(lambda: base)
    engine.start()
    yield engine
    engine.stop()


def asking(prompt: str = "a photo of a dog", **options: Any) -> ImageRequest:
    config = GenerateConfig(**{"num_inference_steps": 3, "seed": 1, **options})
    return ImageRequest(prompt=prompt, config=config)


def grey_levels_apart(image: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(image, np.int16) - np.asarray(other, np.int16)).max())


def alone(base: BaseModel, request: ImageRequest) -> list[Image.Image]:
    return sampler.generate(base, request.prompt, concepts=request.concepts, config=request.config)
