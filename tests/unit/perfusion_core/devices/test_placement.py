"""Weights are cast before they move, and attention computes the same in each way."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from perfusion_core import base_model
from perfusion_core.base_model import BaseModel
from perfusion_core.config import GenerateConfig, TrainConfig
from perfusion_core.devices.options import DeviceOptions, device_of, dtype_of
from perfusion_core.devices.placement import place
from perfusion_core.errors import BaseModelError
from perfusion_core.sampling.sampler import generate
from perfusion_core.training.trainer import train
from tests.unit.perfusion_core.conftest import drawing, tiny_pipeline

CPU = torch.device("cpu")


def model(*, dtype: torch.dtype | None = None, **options: Any) -> BaseModel:
    base = BaseModel.from_pipeline(
        tiny_pipeline("sd1"), name="x", device="cpu", dtype=dtype,
        device_options=DeviceOptions(**options),
    )  # fmt: skip
    base.estimate_covariance(["a photo of a cat on the beach"] * 100)
    return base


def test_no_float32_weight_of_the_unet_ever_reaches_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Meta stands for the device: whatever arrives there has its dtype recorded."""
    pipeline, arrived, real = tiny_pipeline("sdxl"), set[tuple[int, torch.dtype]](), Tensor.to

    def to(tensor: Tensor, *args: Any, **more: Any) -> Tensor:
        moved = real(tensor, *args, **more)
        if moved.device.type == "meta" and tensor.device.type != "meta":
            arrived.add((tensor.data_ptr(), tensor.dtype))
        return moved

    monkeypatch.setattr(Tensor, "to", to)
    place(
        pipeline.unet, pipeline.vae, [pipeline.text_encoder], device=torch.device("meta"),
        dtype=torch.bfloat16, options=DeviceOptions(), pixels=16**2,
    )  # fmt: skip
    of_unet = {weight.dtype for weight in pipeline.unet.parameters()}
    assert of_unet == {torch.bfloat16}
    assert all(weight.device.type == "meta" for weight in pipeline.unet.parameters())
    count = len(list(pipeline.unet.parameters()))
    assert sum(dtype == torch.bfloat16 for _, dtype in arrived) == count


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_fingerprint_of_a_model_is_the_same_in_every_precision_it_runs_in(
    dtype: torch.dtype,
) -> None:
    assert model(dtype=dtype).fingerprint == model().fingerprint


def test_a_model_whose_files_are_float16_has_the_fingerprint_of_the_float32_files() -> None:
    half = tiny_pipeline("sd1")
    for part in (half.unet, half.text_encoder):
        nn.Module.to(part, torch.float16)
    read = BaseModel.from_pipeline(half, name="x", device="cpu")
    assert read.fingerprint == model().fingerprint
    assert {weight.dtype for weight in read.unet.parameters()} == {torch.float32}
    assert {weight.dtype for weight in read.text.encoders[0].parameters()} == {torch.float32}


def test_a_unet_in_half_precision_is_never_in_memory_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_pipeline("sd1").save_pretrained(tmp_path)
    real, read_as = base_model.read_checkpoint, set[torch.dtype]()

    def read(*args: Any, **more: Any) -> Any:
        pipeline = real(*args, **more)
        read_as.update(weight.dtype for weight in pipeline.unet.parameters())
        return pipeline

    monkeypatch.setattr(base_model, "read_checkpoint", read)

    def load(**options: Any) -> BaseModel:
        return BaseModel.load(
            tmp_path, device="cpu", device_options=DeviceOptions(**options), estimate=lambda _: None
        )

    half = load(dtype="bfloat16")
    assert read_as == {torch.float16}
    assert {weight.dtype for weight in half.unet.parameters()} == {torch.bfloat16}
    whole = load()
    assert read_as == {torch.float16, torch.float32}
    assert half.fingerprint == whole.fingerprint == model().fingerprint


@pytest.mark.parametrize("attention", ["math", "sliced"])
def test_attention_gives_the_same_image_and_gradient_in_each_way(attention: str) -> None:
    config = GenerateConfig(num_inference_steps=2, guidance_scale=3.0, seed=1)
    images, gradients = [], []
    for base in (model(), model(attention=attention)):
        image = generate(base, "a teddy at night", config=config)[0]
        images.append(np.asarray(image, dtype=int))
        training = train(
            base, [drawing(32)], name="x", superclass="teddy",
            config=TrainConfig(max_train_steps=1, train_batch_size=2),
        )  # fmt: skip
        training._backward(training._batches.of(0))
        gradients.append(training.o_v.grad)
    assert np.abs(images[0] - images[1]).max() <= 1
    assert gradients[0] is not None and gradients[1] is not None
    difference = float((gradients[0] - gradients[1]).norm())
    assert 0 < difference <= 1e-4 * float(gradients[0].norm())


def test_a_cpu_computes_in_float32_unless_told_and_offloads_nothing() -> None:
    base = model()
    assert (base.dtype, base.placed.offload, base.placed.attention) == (
        torch.float32, "none", "sdpa",
    )  # fmt: skip
    assert dtype_of("bfloat16", CPU) == torch.bfloat16


def test_evaluator_and_segmenter_stay_off_a_device_whose_parts_take_turns() -> None:
    placed = replace(model().placed, device=torch.device("cuda:1"))
    assert placed.side_device == "cuda:1"
    assert replace(placed, offload="text").side_device == "cpu"


def test_what_a_device_cannot_do_is_refused_with_a_sentence() -> None:
    for options, words in (
        (DeviceOptions(dtype="float16"), "PERFUSION_DTYPE to float32"),
        (DeviceOptions(offload="text"), "PERFUSION_OFFLOAD to none"),
        (DeviceOptions(offload="model"), "PERFUSION_OFFLOAD to none"),
    ):
        with pytest.raises(BaseModelError, match=words):
            options.check(CPU)


def test_the_dtype_is_chosen_by_the_gpu_that_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPU 0 is old, GPU 1 knows bfloat16; torch answers for the current device."""
    current = [0]

    class Current:
        def __init__(self, device: torch.device) -> None:
            self.index = device.index or 0

        def __enter__(self) -> None:
            self.before, current[0] = current[0], self.index

        def __exit__(self, *_: object) -> None:
            current[0] = self.before

    monkeypatch.setattr(torch.cuda, "device", Current)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: current[0] == 1
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert dtype_of("auto", device_of("cuda:0")) == torch.float16
    assert dtype_of("auto", device_of("cuda:1")) == torch.bfloat16
    with pytest.raises(BaseModelError, match="too old for bfloat16"):
        DeviceOptions(dtype="bfloat16").check(device_of("cuda:0"))
    DeviceOptions(dtype="bfloat16").check(device_of("cuda:1"))


def test_a_gpu_that_is_not_there_is_refused_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(BaseModelError, match="so there is no cuda:1"):
        device_of("cuda:1")
