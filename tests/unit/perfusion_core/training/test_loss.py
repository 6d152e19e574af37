"""A step's gradient: the same in parts, recomputed, shared by examples, in half precision."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from perfusion_core.attention import PackedAttention
from perfusion_core.backends.backend import EagerBackend, UNetInput
from perfusion_core.base_model import BaseModel
from perfusion_core.config import TrainConfig
from perfusion_core.covariance.captions import captions
from perfusion_core.sampling.schedulers import guidance_input, make_scheduler
from perfusion_core.training import loss
from perfusion_core.training.batches import TrainingBatch
from perfusion_core.training.trainer import Training, train
from tests.unit.perfusion_core.conftest import tiny_pipeline

CONFIG = TrainConfig(max_train_steps=3, train_batch_size=6, seed=1, background_weight=1.5)
Tiny = Callable[[str], BaseModel]


def begin(base: BaseModel, config: TrainConfig = CONFIG) -> Training:
    mask = Image.linear_gradient("L")
    picture = Image.radial_gradient("L").convert("RGB")
    return train(base, [picture], name="x", superclass="teddy", masks=[mask], config=config)


def gradients(
    base: BaseModel, *, parts: int = 1, recomputes: bool = False, batch: TrainingBatch | None = None
) -> list[Tensor]:
    """The loss, and the gradients of all that is learned."""
    training = begin(base)
    training.loss.parts, training.loss.recomputes = parts, recomputes
    loss, _ = training._backward(batch or training._batches.of(0))
    learned = [parameter.grad for parameter in (training.o_v, *training.embeddings)]
    return [loss, *(gradient for gradient in learned if gradient is not None)]


def near(one: list[Tensor], other: list[Tensor], tolerance: float) -> bool:
    return len(one) == len(other) and all(
        float((a - b).norm()) <= tolerance * float(b.norm())
        for a, b in zip(one, other, strict=True)
    )


@contextmanager
def memory_for(base: BaseModel, examples: int) -> Iterator[None]:
    """A device that is full as soon as a pass with gradients has more than so many examples."""

    def fill(_module: Any, args: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled() and len(args[0]) > examples:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    hook = base.unet.register_forward_pre_hook(fill)
    try:
        yield
    finally:
        hook.remove()


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_gradients_of_the_parts_add_up_to_the_whole_batchs(tiny: Tiny, family: str) -> None:
    whole = gradients(tiny(family))
    assert all(float(gradient.norm()) > 0 for gradient in whole)
    for parts in (2, 4, 6):  # 4 parts of 6 examples are not alike
        assert near(gradients(tiny(family), parts=parts), whole, 1e-4)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_recomputing_activations_keeps_fewer_of_them_and_changes_no_gradient(
    tiny: Tiny, family: str
) -> None:
    def kept_bytes(*, recomputes: bool) -> int:
        sizes: list[int] = []

        def keep(tensor: Tensor) -> Tensor:
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            gradients(tiny(family), recomputes=recomputes)
        return sum(sizes)

    base = tiny(family)
    assert near(gradients(base, recomputes=True), gradients(base), 1e-5)
    assert kept_bytes(recomputes=True) < kept_bytes(recomputes=False)
    assert not any(getattr(m, "gradient_checkpointing", False) for m in base.unet.modules())


@dataclass
class InBfloat16:
    """A backend that says bfloat16, and predicts as torch does in float32."""

    torch: EagerBackend
    name: str = "graph"
    precision: str = "bfloat16"

    def __call__(self, rows: UNetInput) -> Tensor:
        return self.torch(rows)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_where_images_are_sampled_in_bfloat16_so_are_gradients_but_for_attention_to_the_prompt(
    tiny: Tiny, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attended: list[torch.dtype] = []
    attend = PackedAttention._attend_in_float32

    def observed(self: PackedAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        assert (q.dtype, k.dtype, v.dtype) == (torch.bfloat16, torch.float32, torch.float32)
        attended.append(q.dtype)
        return attend(self, q, k, v)

    monkeypatch.setattr(PackedAttention, "_attend_in_float32", observed)
    base = tiny(family)
    full = gradients(base)
    assert not attended
    monkeypatch.setattr(base, "backend", InBfloat16(base.eager))
    half = gradients(base)
    assert len(attended) == len(base.layers)
    assert near(half, full, 0.1)
    assert not near(half, full, 1e-5)
    assert all(gradient.dtype == torch.float32 for gradient in half)


@pytest.mark.parametrize(("device", "by_graph"), [("cpu", True), ("cuda", False)])
def test_the_plain_prediction_comes_from_the_graph_on_a_cpu_alone(
    tiny: Tiny, device: str, by_graph: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny("sd1")
    graph = InBfloat16(base.eager)
    monkeypatch.setattr(base, "backend", graph)
    monkeypatch.setattr(base, "device", torch.device(device))
    monkeypatch.setattr(loss, "free_bytes", lambda _: None)
    made = loss.MaskedLoss(base, make_scheduler(base, "ddim"), side=64, batch_size=2)
    assert made._predict is (graph if by_graph else base.eager)


def test_examples_of_one_prompt_share_its_encoding_and_nothing_else_changes(tiny: Tiny) -> None:
    base = tiny("sdxl")
    batch = begin(base)._batches.of(0)
    assert len(batch.prompts.places) < len(batch.prompt)
    of = batch.prompt.tolist()
    apart = replace(batch, prompt=torch.arange(len(of)), prompts=batch.prompts.rows(of))
    assert near(gradients(base, batch=batch), gradients(base, batch=apart), 1e-4)


def test_a_batch_begins_in_as_many_passes_as_the_free_memory_demands_with_the_same_total(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base = tiny("sd1")
    each = base.placed.needs.training(base.default_resolution**2)
    text = base.placed.needs.text_graph * CONFIG.train_batch_size
    whole = gradients(base)
    for pictures, recomputes in ((2.5, False), (0.5, True)):
        # 1.3 is the waste that is expected, and 0.92 the share of memory that is used.
        free = int((text + pictures * each) * 1.3 / 0.92)
        monkeypatch.setattr(loss, "free_bytes", lambda device, free=free: free)
        training = begin(base)
        assert training.loss.recomputes == recomputes
        assert recomputes or training.loss.parts == 3
        found, _ = training._backward(training._batches.of(0))
        assert near([found], whole[:1], 1e-5)
        assert training.o_v.grad is not None
        assert near([training.o_v.grad], whole[1:2], 1e-4)
    assert not caplog.records


@pytest.mark.slow
def test_out_of_memory_leads_to_smaller_passes_of_the_same_total_and_is_said(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    base, enough, short = tiny("sd1"), begin(tiny("sd1")), begin(tiny("sd1"))
    list(enough)
    with caplog.at_level(logging.WARNING), memory_for(base, examples=2):
        steps = list(short)
    assert len(steps) == CONFIG.max_train_steps
    assert short.loss.parts == 4 and not short.loss.recomputes
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and "a batch of 6 takes 4 passes, with the same total" in said[-1]
    assert near([short.o_v.detach()], [enough.o_v.detach()], 1e-3)
    assert torch.allclose(short.i_star, enough.i_star, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_where_not_even_one_example_fits_it_ends_after_recomputing(tiny: Tiny) -> None:
    training = begin(tiny("sd1"))
    with memory_for(tiny("sd1"), examples=0), pytest.raises(torch.OutOfMemoryError):
        next(training)
    assert training.loss.parts == CONFIG.train_batch_size and training.loss.recomputes


def test_another_error_of_the_device_is_not_taken_for_a_lack_of_memory(tiny: Tiny) -> None:
    def break_down(_module: Any, _args: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    training, unet = begin(tiny("sd1")), tiny("sd1").unet
    hook = unet.register_forward_pre_hook(break_down)
    try:
        with pytest.raises(RuntimeError, match="illegal memory access"):
            next(training)
    finally:
        hook.remove()
    assert training.loss.parts == 1


def test_nothing_before_the_first_cross_attention_has_a_gradient_and_no_weight(tiny: Tiny) -> None:
    """But for SDXL, whose pooled embedding enters with the timestep."""
    base, hooks = tiny("sd1"), []
    differentiated: dict[str, bool] = {}
    for name, module in base.unet.named_modules():

        def see(_module: Any, _args: Any, output: Any, name: str = name) -> None:
            first = output[0] if isinstance(output, tuple) else output
            # The pass that tells what to keep around the object has no gradient anywhere.
            seen = differentiated.get(name, False)
            differentiated[name] = seen or getattr(first, "requires_grad", False)

        hooks.append(module.register_forward_hook(see))
    gradients(base)
    for hook in hooks:
        hook.remove()
    first = base.layers[0].name
    before = ("conv_in", "time_embedding", "down_blocks.0.resnets.0", first.replace("2", "1"))
    assert not any(differentiated[name] for name in before)
    assert differentiated[first] and differentiated["conv_out"]
    for module in (base.unet, *base.text.encoders):
        assert all(weight.grad is None for weight in module.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_unet_gives_the_gradient_of_a_float32_one(dtype: torch.dtype) -> None:
    def learned(dtype: torch.dtype) -> list[Tensor]:
        base = BaseModel.from_pipeline(tiny_pipeline("sd1"), name="x", device="cpu", dtype=dtype)
        base.estimate_covariance(("a photo of a cat",) * 200)
        return gradients(base)

    exact, half = learned(torch.float32), learned(dtype)
    assert all(gradient.dtype == torch.float32 for gradient in half)
    for found, expected in zip(half[1:], exact[1:], strict=True):
        assert float(F.cosine_similarity(found, expected, dim=0)) > 0.99


def test_a_distilled_u_net_is_trained_at_the_guidance_of_its_images() -> None:
    base = BaseModel.from_pipeline(
        tiny_pipeline("sd1", time_cond_proj_dim=8), name="lcm", device="cpu"
    )
    base.estimate_covariance(captions(100, known=base.knows_word))
    given = []
    hook = base.unet.register_forward_pre_hook(
        lambda _module, _args, options: given.append(options["timestep_cond"]), with_kwargs=True
    )
    next(begin(base))
    hook.remove()
    expected = guidance_input(base, base.defaults.generate_config().guidance_scale)
    assert expected is not None
    assert all(torch.equal(rows, expected.expand(len(rows), -1)) for rows in given)
    assert sum(map(len, given)) == 2 * CONFIG.train_batch_size  # the frozen model's rows, too
