"""What a request's images owe to their company: nothing, and in an exact engine not even a bit.

One request ticks: with each of its steps others join, in random mixtures, and some are cancelled.
All of that happens in the engine's thread between two steps, so that an example repeats itself.
"""

from dataclasses import dataclass, field, replace
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from perfusion_core.base_model import BaseModel
from perfusion_core.conditioning import ConceptUse
from perfusion_core.config import GenerateConfig, SchedulerName
from perfusion_core.sampling.sampler import ImageRequest
from tests.unit.perfusion_core.test_conditioning import concept_like
from tests.unit.worker.engine.conftest import grey_levels_apart
from worker.engine.engine import Engine
from worker.engine.requests import Request

TICKS = 8
PROMPTS = ("a photo of a <x>", "<y> on the beach", "a <x> beside <y>", "a house", "")


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A request: when it joins, whose it is, and whether and when its owner gives up."""

    tick: int
    owner: str
    prompt: str
    beta: float
    config: GenerateConfig
    given_up_at: int | None
    maps: bool = False


ARRIVALS = st.builds(
    Arrival,
    tick=st.integers(0, TICKS - 1),
    owner=st.sampled_from("abc"),
    prompt=st.sampled_from(PROMPTS),
    beta=st.sampled_from([0.6, 0.7]),
    config=st.builds(
        GenerateConfig,
        seed=st.integers(0, 2**32 - 1),
        num_inference_steps=st.integers(1, 6),
        num_images=st.integers(1, 2),
        guidance_scale=st.sampled_from([1.0, 3.0, 4.0]),
        scheduler=st.sampled_from(get_args(SchedulerName)),
        locking=st.sampled_from(["local", "global"]),
        width=st.sampled_from([32, 40]),
        height=st.just(32),
    ),
    given_up_at=st.none() | st.integers(0, TICKS - 1),
    maps=st.booleans(),
)


def request_of(base: BaseModel, arrival: Arrival) -> ImageRequest:
    concepts = {
        name: ConceptUse(concept_like(base, superclass, name, seed), beta=arrival.beta)
        for name, superclass, seed in (("x", "teddy", 1), ("y", "robot", 2))
        if f"<{name}>" in arrival.prompt
    }
    return ImageRequest(
        prompt=arrival.prompt, concepts=concepts, config=arrival.config, attention_maps=arrival.maps
    )


@dataclass
class Company:
    """An engine whose first request ticks."""

    base: BaseModel
    arrivals: list[Arrival]
    exact: bool
    requests: dict[int, Request] = field(default_factory=dict)

    def play(self) -> dict[int, list[Image.Image]]:
        engine = Engine(lambda: self.base, exact=self.exact)

        def tick(done: int, _total: int) -> None:
            for number, arrival in enumerate(self.arrivals):
                if arrival.tick == done - 1:
                    request = request_of(self.base, arrival)
                    self.requests[number] = engine.submit(request, owner=arrival.owner)
                if arrival.given_up_at == done - 1 and number in self.requests:
                    self.requests[number].cancel()

        config = GenerateConfig(seed=0, num_inference_steps=TICKS, width=32, height=32)
        clock = engine.submit(ImageRequest(prompt="a clock", config=config), on_step=tick)
        engine.start()
        clock.result(timeout_seconds=60)
        images = {
            number: [sample.image for sample in request.result(timeout_seconds=60)]
            for number, request in self.requests.items()
        }
        engine.stop()
        return images


def alone(base: BaseModel, arrival: Arrival, *, exact: bool) -> list[Image.Image]:
    engine = Engine(lambda: base, exact=exact)
    engine.start()
    samples = engine.submit(request_of(base, replace(arrival, maps=False))).result(
        timeout_seconds=60
    )
    engine.stop()
    return [sample.image for sample in samples]


@pytest.mark.parametrize(("exact", "tolerance"), [(True, 0), (False, 1)])
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(arrivals=st.lists(ARRIVALS, min_size=1, max_size=6))
def test_an_image_is_the_same_in_any_company(
    base: BaseModel, exact: bool, tolerance: int, arrivals: list[Arrival]
) -> None:
    images = Company(base, arrivals, exact).play()
    for number, mine in images.items():
        expected = alone(base, arrivals[number], exact=exact)
        if arrivals[number].given_up_at is None:
            assert len(mine) == len(expected)
        for image, other in zip(mine, expected, strict=False):
            assert grey_levels_apart(image, other) <= tolerance
