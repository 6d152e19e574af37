"""Graphs of fixed sizes compute every batch. Without a GPU, work is repeated instead of recorded.

`benchmarks/gpu` compares real CUDA graphs with torch.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from perfusion_core.backends import cuda_graphs
from perfusion_core.backends.backend import EagerBackend, UNetInput, example_input
from perfusion_core.backends.cuda_graphs import CudaGraphBackend, Work
from perfusion_core.base_model import BaseModel
from perfusion_core.config import GenerateConfig, SchedulerName
from perfusion_core.sampling.sampler import ImageRequest, start, step
from perfusion_core.sampling.trajectories import Batch


@dataclass
class Recorder:
    """Repeats work on the tensors that it had when it was recorded, as a graph does."""

    rows: list[int] = field(default_factory=list)

    def __call__(self, work: Work) -> tuple[Callable[[], None], Tensor]:
        told = work()
        self.rows.append(len(told))

        def replay() -> None:
            told.copy_(work())

        return replay, told


@pytest.fixture(scope="module")
def base(tiny: Callable[[str], BaseModel]) -> BaseModel:
    return tiny("sdxl")


def rows_of(base: BaseModel, *, rows: int, side: int = 8, tokens: int = 32) -> UNetInput:
    return example_input(
        base.unet, rows=rows, side=side, tokens=tokens, packed_width=base.packed_width
    )


def test_every_batch_runs_in_the_next_larger_graph_and_predicts_what_torch_predicts(
    base: BaseModel,
) -> None:
    recorder = Recorder()
    backend = CudaGraphBackend(base.unet, record=recorder)
    for rows in (3, 1, 2, 4, 5, 3, 32):
        given = rows_of(base, rows=rows)
        assert torch.allclose(backend(given), base.eager(given), atol=1e-5)
    assert recorder.rows == [4, 1, 2, 8, 32]


def test_a_graph_is_of_one_size_of_latents_and_of_one_number_of_tokens(base: BaseModel) -> None:
    recorder = Recorder()
    backend = CudaGraphBackend(base.unet, record=recorder)
    for side, tokens in ((8, 32), (12, 32), (8, 64), (8, 32)):
        given = rows_of(base, rows=2, side=side, tokens=tokens)
        assert torch.allclose(backend(given), base.eager(given), atol=1e-5)
    assert len(recorder.rows) == 3


def test_more_rows_than_the_largest_graph_run_in_torch(base: BaseModel) -> None:
    recorder = Recorder()
    given = rows_of(base, rows=33)
    assert torch.equal(CudaGraphBackend(base.unet, record=recorder)(given), base.eager(given))
    assert recorder.rows == []


def test_a_result_stays_when_its_graph_computes_the_next(base: BaseModel) -> None:
    backend = CudaGraphBackend(base.unet, record=Recorder())
    given = rows_of(base, rows=2)
    first = backend(given)
    kept = first.clone()
    assert not torch.equal(backend(given.map(lambda tensor: tensor + 1)), kept)
    assert torch.equal(first, kept)


def test_the_graph_that_was_unused_for_longest_is_dropped(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "_MOST_GRAPHS", 2)
    recorder = Recorder()
    backend = CudaGraphBackend(base.unet, record=recorder)
    for rows in (1, 2, 1, 4, 1, 2):
        backend(rows_of(base, rows=rows))
    assert recorder.rows == [1, 2, 4, 2]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("operation not permitted when stream is capturing"),
    ],
)
def test_a_graph_that_cannot_be_recorded_is_left_to_torch_and_the_log_says_so(
    base: BaseModel, caplog: pytest.LogCaptureFixture, error: RuntimeError
) -> None:
    attempts = []

    def fail(work: Work) -> tuple[Callable[[], None], Tensor]:
        attempts.append(work)
        raise error

    backend = CudaGraphBackend(base.unet, record=fail)
    given = rows_of(base, rows=2)
    assert torch.equal(backend(given), base.eager(given))
    assert torch.equal(backend(given), base.eager(given))
    assert len(attempts) == 1
    assert f"run in torch, without a graph: {error}" in caplog.text


def test_a_unet_with_packed_attention_compiles_in_one_piece(base: BaseModel) -> None:
    compiled = torch.compile(base.unet, dynamic=False, fullgraph=True, backend="eager")
    given = rows_of(base, rows=2)
    assert torch.equal(EagerBackend(compiled)(given), base.eager(given))


class Copies(TorchDispatchMode):
    """Names the operations that copy a tensor to or from the pretended device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {leaf.device for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        if isinstance(made, Tensor) and given and made.device not in given:
            self.found.append(str(func))
        return made


@pytest.mark.parametrize("scheduler", ["ddim", "dpmpp_2m", "dpmpp_2m_karras", "euler"])
def test_a_step_waits_for_nothing(
    scheduler: SchedulerName, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is pretended: its tensors have no data, so that reading one is an error."""
    device = torch.device("meta")
    config = GenerateConfig(num_inference_steps=4, scheduler=scheduler, guidance_rescale=0.5)
    trajectories = start(base, ImageRequest(prompt="a house", config=config))
    for trajectory in trajectories:
        trajectory.latents = trajectory.latents.to(device)
        trajectory.timesteps = trajectory.timesteps.to(device)
        trajectory.packed = trajectory.packed.to(device)
        trajectory.added = {name: own.to(device) for name, own in trajectory.added.items()}
    monkeypatch.setattr(base, "backend", EagerBackend(copy.deepcopy(base.unet).to(device)))
    batch = Batch(trajectories)
    with Copies() as copies:
        while not trajectories[0].finished:
            step(base, batch)
    assert trajectories[0].latents.device == device
    assert copies.found == []
