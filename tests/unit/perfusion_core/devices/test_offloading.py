"""Parts that take turns on a device keep their weights, and give the same encodings."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from perfusion_core.base_model import BaseModel
from perfusion_core.config import GenerateConfig, TrainConfig
from perfusion_core.devices.offloading import Offloading
from perfusion_core.sampling.sampler import generate
from perfusion_core.training.trainer import Training, train
from tests.unit.perfusion_core.conftest import drawing, tiny_pipeline

CPU = torch.device("cpu")


def offloaded(family: str, *, model: bool = False) -> BaseModel:
    """A tiny base model whose parts leave the "device", which is a second copy in memory."""
    base = BaseModel.from_pipeline(tiny_pipeline(family), name=family, device="cpu")
    parts: dict[str, Any] = {"text": base.text.encoders}
    if model:
        parts |= {"vae": [base.vae], "unet": [base.unet]}
    offloading = Offloading(parts, device=CPU, resting="unet" if model else None)
    object.__setattr__(base.placed, "offloading", offloading)
    base.text.offloading = offloading
    return with_covariance(base)


def with_covariance(base: BaseModel) -> BaseModel:
    base.estimate_covariance(["a photo of a cat on the beach"] * 100)
    return base


def in_memory(family: str) -> BaseModel:
    base = BaseModel.from_pipeline(tiny_pipeline(family), name=family, device="cpu")
    return with_covariance(base)


def begin(base: BaseModel) -> Training:
    config = TrainConfig(max_train_steps=2, train_batch_size=3, seed=1)
    return train(base, [drawing(32)], name="x", superclass="teddy", config=config)


def addresses(*modules: Any) -> set[int]:
    return {weight.data_ptr() for module in modules for weight in module.parameters()}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_offloaded_text_encoders_give_the_same_encodings_and_the_same_gradients(
    family: str,
) -> None:
    resting, leaving = begin(in_memory(family)), begin(offloaded(family))
    for training in (resting, leaving):
        training._backward(training._batches.of(0))
    assert torch.equal(leaving.e_super, resting.e_super)
    learned: list[tuple[Tensor, Tensor]] = [
        (leaving.o_v, resting.o_v),
        *zip(leaving.embeddings, resting.embeddings, strict=True),
    ]
    for ours, expected in learned:
        assert ours.grad is not None and expected.grad is not None
        assert float(expected.grad.norm()) > 0
        assert torch.allclose(ours.grad, expected.grad, rtol=1e-5, atol=1e-9)


def test_a_graph_of_offloaded_text_encoders_keeps_no_activations() -> None:
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.nbytes)
        return tensor

    for base in (in_memory("sd1"), offloaded("sd1")):
        training = begin(base)
        prompts = training._batches.of(0).prompts
        before = len(kept)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            base.text.encode(prompts.ids, prompts.replacements(training.embeddings))
        if base.text.offloading.covers("text"):
            width = base.encoding_width
            assert sum(kept[before:]) == len(prompts.ids[0]) * width * 4  # the embeddings alone
        else:
            assert len(kept) > before


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_a_model_whose_parts_take_turns_draws_the_same_image(family: str) -> None:
    config = GenerateConfig(num_inference_steps=2, guidance_scale=3.0, seed=1)
    images = [
        generate(base, "a teddy at night", config=config)[0]
        for base in (in_memory(family), offloaded(family, model=True))
    ]
    assert images[0].tobytes() == images[1].tobytes()


def test_one_part_is_on_the_device_at_a_time_and_the_resting_part_comes_back() -> None:
    base = offloaded("sd1", model=True)
    text, unet = base.text.encoders[0], base.unet
    offloading = base.placed.offloading
    there, at_home = addresses(unet), addresses(text)
    with offloading.using("text"):
        inside = addresses(text)
        assert not inside & at_home
        assert not addresses(unet) & there
        with offloading.using("text"):
            assert addresses(text) == inside
        with offloading.using("vae"):
            assert addresses(text) == at_home
        assert not addresses(text) & at_home
    assert addresses(text) == at_home


def test_a_part_goes_home_though_its_use_fails_and_projections_stay_the_models_own() -> None:
    base = offloaded("sd1", model=True)
    at_home = addresses(*base.text.encoders)
    with pytest.raises(ZeroDivisionError), base.placed.offloading.using("text"):
        raise ZeroDivisionError
    assert addresses(*base.text.encoders) == at_home
    assert {layer.W_K.data_ptr() for layer in base.layers} <= addresses(base.unet)


def test_a_part_that_does_not_fit_goes_home_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    module, full = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), []
    offloading = Offloading({"text": [module]}, device=CPU)
    at_home, real = addresses(module), Tensor.to

    def to(tensor: Tensor, *args: Any, **more: Any) -> Tensor:
        full.append(tensor)
        if len(full) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return real(tensor, *args, **more)

    monkeypatch.setattr(Tensor, "to", to)
    with pytest.raises(torch.OutOfMemoryError), offloading.using("text"):
        pass
    monkeypatch.undo()
    assert addresses(module) == at_home
