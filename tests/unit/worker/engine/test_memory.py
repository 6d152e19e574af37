"""A batch that the device's memory does not hold is halved, and holds nothing afterwards."""

import weakref
from typing import Any

import pytest
import torch

from perfusion_core.base_model import BaseModel
from perfusion_core.sampling import sampler
from perfusion_core.sampling.trajectories import Batch
from tests.unit.worker.engine.conftest import alone, asking, grey_levels_apart
from worker.engine.engine import Engine
from worker.errors import OutOfMemory


def test_a_batch_that_does_not_fit_into_memory_is_halved(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = _limit_memory(monkeypatch, rows=4)
    engine = Engine(lambda: base, max_rows=16)
    image_request = asking(num_images=5, num_inference_steps=2)
    request = engine.submit(image_request)
    engine.start()
    samples = request.result(timeout_seconds=60)
    monkeypatch.undo()
    for sample, expected in zip(samples, alone(base, image_request), strict=True):
        assert grey_levels_apart(sample.image, expected) <= 1
    assert sizes[0] == 10
    assert max(sizes[2:]) <= 4
    engine.stop()


def test_an_exact_batch_that_does_not_fit_into_memory_is_halved_with_its_padding(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = _limit_memory(monkeypatch, rows=4)
    engine = Engine(lambda: base, exact=True)
    request = engine.submit(asking(num_inference_steps=2))
    engine.start()
    assert len(request.result(timeout_seconds=60)) == 1
    engine.stop()
    assert sizes == [8, 4, 4]


def test_a_picture_that_does_not_fit_into_memory_alone_is_refused_in_words(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    _limit_memory(monkeypatch, rows=1)
    engine = Engine(lambda: base)
    request = engine.submit(asking())
    engine.start()
    with pytest.raises(OutOfMemory, match="smaller width and height"):
        request.result(timeout_seconds=60)
    monkeypatch.undo()
    assert len(engine.submit(asking()).result(timeout_seconds=60)) == 1
    engine.stop()


def _limit_memory(monkeypatch: pytest.MonkeyPatch, *, rows: int) -> list[int]:
    """Let the real step run, but only for batches of so many rows; return the sizes tried."""
    sizes: list[int] = []
    real = sampler.step

    def step(base: BaseModel, batch: Batch) -> None:
        sizes.append(len(batch.packed))
        if sizes[-1] > rows:
            raise torch.OutOfMemoryError("out of memory")
        real(base, batch)

    monkeypatch.setattr(sampler, "step", step)
    return sizes


@pytest.mark.parametrize("where", ["step", "decode_together"])
def test_what_failed_for_lack_of_memory_holds_none_when_it_is_tried_again(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    real, taken = getattr(sampler, where), []

    class Activations:
        """A device's memory, which a frame holds."""

    def short_of_memory(*args: Any) -> Any:
        if taken:
            assert taken[0]() is None
            return real(*args)
        activations = Activations()
        taken.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(sampler, where, short_of_memory)
    engine = Engine(lambda: base)
    request = engine.submit(asking(num_images=2))
    engine.start()
    assert len(request.result(timeout_seconds=60)) == 2
    engine.stop()
