"""A training that was interrupted goes on from its saved state, or says why it cannot."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor

from perfusion_core.base_model import BaseModel
from perfusion_core.errors import TrainingStateError
from perfusion_core.text.templates import FORMAT_1_TEMPLATES
from perfusion_core.training import checkpoint
from perfusion_core.training.trainer import Training, train
from tests.unit.perfusion_core.training.conftest import SHORT, begin, picture


def test_a_training_begun_with_other_prompts_is_another_training(
    tiny: Callable[[str], BaseModel],
) -> None:
    base = tiny("sd1")
    state = begin(base, templates=FORMAT_1_TEMPLATES).state()
    with pytest.raises(TrainingStateError, match="start the training anew"):
        begin(base, state=state)


@pytest.mark.parametrize("interrupted_after", [0, 1, 4])
def test_a_resumed_training_ends_as_one_never_interrupted(
    base: BaseModel, interrupted_after: int
) -> None:
    whole = begin(base)
    list(whole)
    first = begin(base)
    for _ in range(interrupted_after):
        next(first)
    second = begin(base, state=first.state())
    assert second.step == interrupted_after
    assert [step.step for step in second] == list(range(interrupted_after + 1, 7))
    assert second.concept().to_bytes() == whole.concept().to_bytes()


def test_a_state_of_another_training_is_refused(base: BaseModel) -> None:
    state = begin(base).state()
    with pytest.raises(TrainingStateError, match="start the training anew"):
        begin(base, replace(SHORT, learning_rate=0.5), state=state)
    with pytest.raises(TrainingStateError, match="start the training anew"):
        train(base, [picture("red")], name="x", superclass="teddy", config=SHORT, state=state)
    for damaged in (b"", state[:50], state[:-10], b"\x80\x04pickle"):
        with pytest.raises(TrainingStateError, match="damaged"):
            begin(base, state=damaged)


def test_a_training_resumes_on_another_device_whose_segmenter_finds_nearly_the_same(
    base: BaseModel,
) -> None:
    def finds(level: int) -> Callable[[Image.Image, str], Image.Image]:
        mask = Image.new("L", (64, 64), 20)
        mask.paste(level, (16, 16, 48, 48))
        return lambda picture, superclass: mask

    def training(level: int | None, state: bytes | None = None) -> Training:
        segmenter = None if level is None else finds(level)
        named = {"name": "x", "superclass": "teddy", "config": SHORT}
        return train(base, [picture()], segmenter=segmenter, state=state, **named)  # type: ignore[arg-type]

    begun = training(200)
    next(begun)
    assert training(201, begun.state()).step == 1
    # Without any mask it is another training.
    with pytest.raises(TrainingStateError, match="start the training anew"):
        training(None, begun.state())


def test_a_device_without_memory_is_no_damage_of_the_state(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = begin(base).state()

    def full(_: bytes) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(checkpoint, "load", full)
    with pytest.raises(torch.OutOfMemoryError):
        begin(base, state=state)
