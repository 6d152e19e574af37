"""The GPU's script goes through every stage without one, and counts what it says it counts."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from benchmarks import shapes
from benchmarks.gpu.__main__ import run
from benchmarks.gpu.bench import DRY, Bench, Figures, Size
from benchmarks.gpu.report import table
from benchmarks.gpu.stages import STAGES
from benchmarks.measure import flops, kept_bytes, peak_bytes, ratio, traffic_bytes
from benchmarks.needs import needs
from benchmarks.staging import SHIPPED

CPU = torch.device("cpu")
_UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.long
def test_a_dry_run_goes_through_every_stage_and_its_table_names_each(tmp_path: Path) -> None:
    figures = run(DRY, device=CPU, out=tmp_path, until=0.0)
    stages = [stage.__name__ for stage in STAGES]
    assert [name for name in stages if {"failed", "skipped"} & set(figures[name])] == []
    assert json.loads((tmp_path / "gpu.json").read_text()).keys() == figures.keys()
    told = table(figures)
    # At this size nothing is compiled: that would take minutes.
    assert [name for name in stages if f"{name}: " not in told] == [
        "compiled_images", "compiled",
    ]  # fmt: skip
    assert figures["requests_at_once"]["requests"] == DRY.requests
    assert figures["options"]["tflop_a_step"] > 0
    assert figures["others"]["shipped"]["side"] == 128


@pytest.mark.parametrize("folder", ["unet", "vae", "text_encoder"])
def test_the_shipped_shape_is_that_of_the_shipped_weights(folder: str) -> None:
    with torch.device("meta"):
        made = getattr(shapes.pipeline("shipped"), folder)
    (file,) = (SHIPPED / folder).glob("*.safetensors")
    there = {name: tuple(weight.shape) for name, weight in load_file(file).items()}
    own = {name: tuple(weight.shape) for name, weight in made.state_dict().items()}
    assert {name: own.get(name) for name in there} == there
    assert {name for name in own if not name.endswith("position_ids")} == set(there)


@pytest.mark.long
def test_the_shipped_models_needs_are_counted_at_its_own_size() -> None:
    counted = needs("shipped")
    assert counted.side == 128
    assert counted.unet_bytes == pytest.approx((SHIPPED / _UNET).stat().st_size, rel=0.01)


def test_a_stage_without_time_is_skipped_and_one_that_fails_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def matrix(_bench: Bench) -> Figures:
        raise RuntimeError("no such card")

    def rivals(_bench: Bench) -> Figures:
        raise AssertionError("there was no time for it")

    monkeypatch.setattr("benchmarks.gpu.__main__.STAGES", {matrix: 1.0, rivals: 60.0})
    size = replace(DRY, steps=2)
    figures = run(size, device=CPU, out=tmp_path, until=time.monotonic() + 50)
    assert figures["matrix"]["failed"] == "RuntimeError: no such card"
    assert "matrix: failed, RuntimeError: no such card" in table(figures)
    assert "rivals: skipped, no time was left" in table(figures)


def test_operations_of_products_and_attention_are_counted() -> None:
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    assert flops(lambda: a @ b) == 2 * 3 * 5 * 7
    q = torch.randn(2, 4, 6, 8)
    assert flops(lambda: F.scaled_dot_product_attention(q, q, q)) == 2 * (2 * 2 * 4 * 6 * 6 * 8)


def test_the_peak_counts_what_is_held_at_once_and_not_what_is_allocated_in_all() -> None:
    def work() -> None:
        for _ in range(5):
            torch.ones(1000, 1000)

    assert 4_000_000 <= peak_bytes(work) < 5_000_000


def test_kept_bytes_count_each_tensor_once_and_no_weight() -> None:
    weight, x = torch.randn(10, 10), torch.randn(10, 10, requires_grad=True)
    with kept_bytes(iter([weight])) as kept:
        ((x @ weight).exp() * 2).sum()
    assert sum(kept) == 400


def test_traffic_is_what_operations_read_and_write_and_views_are_free() -> None:
    x = torch.randn(10, 10)
    assert traffic_bytes(lambda: x.T) == 0
    assert traffic_bytes(lambda: x.T + x) == 3 * x.nbytes


def test_ratios_are_taken_within_rounds() -> None:
    assert ratio([1.0, 20.0, 3.0], [2.0, 40.0, 6.0]) == 0.5


@pytest.mark.long
def test_what_is_counted_on_shapes_is_what_a_real_unet_does() -> None:
    counted, unet = needs("tiny"), shapes.pipeline("tiny").unet
    assert 2 * counted.unet_bytes == sum(4 * weight.numel() for weight in unet.parameters())
    told = torch.zeros(1, 77, 32)

    @torch.no_grad()
    def predict() -> None:
        unet(torch.zeros(1, 4, 8, 8), torch.zeros(1), encoder_hidden_states=told)

    # A plain pass also projects the encodings to Keys and Values, which ours have behind them.
    projections = (
        2
        * 77
        * sum(
            layer.weight.numel()
            for name, layer in unet.named_modules()
            if name.endswith((".attn2.to_k", ".attn2.to_v"))
        )
    )
    assert counted.denoising_flops == flops(predict) - projections
    assert counted.training_flops > 1.5 * counted.denoising_flops


def test_the_full_size_is_the_papers() -> None:
    size = Size()
    assert (size.shape, size.steps, size.batch, size.image_steps) == ("sd15", 400, 16, 25)
    assert shapes.UNETS[size.shape]["sample_size"] * 8 == 512
