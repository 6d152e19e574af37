"""C: what it counts, its ridge, its precision and its name."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from perfusion_core.base_model import BaseModel
from perfusion_core.covariance.caption_encodings import content_positions
from perfusion_core.covariance.estimate import (
    Covariance,
    Positions,
    RidgeUnit,
    estimate,
    second_moment,
)
from tests.unit.perfusion_core.conftest import tiny_pipeline


def estimated(e: Tensor, *, ridge: float = 0.01, unit: RidgeUnit = "median") -> Covariance:
    """C of encodings (n, N, d), with n at least 100."""
    chunks = iter(e.split(64))
    return estimate(
        ["x"] * len(e), lambda batch: next(chunks), base_model_fingerprint="f", ridge=ridge,
        ridge_unit=unit,
    )  # fmt: skip


def spread(count: int = 120, width: int = 8) -> Tensor:
    """Encodings of which one dimension is a thousand times as large as the others."""
    scale = torch.ones(width)
    scale[0] = 1000.0
    return torch.randn((count, 5, width), generator=torch.Generator().manual_seed(3)) * scale


@pytest.mark.parametrize("unit", ["median", "mean"])
def test_the_covariance_is_the_second_moment_of_all_positions_plus_its_ridge(
    unit: RidgeUnit,
) -> None:
    e = spread()
    flat = e.flatten(0, 1).double()
    C = flat.T @ flat / len(flat)
    diagonal = C.diagonal().clone()
    C += 0.01 * (diagonal.median() if unit == "median" else diagonal.mean()) * torch.eye(8)
    assert torch.allclose(estimated(e, unit=unit).C, C, rtol=1e-5, atol=1e-2)


def test_one_large_dimension_does_not_drown_the_others_in_the_ridge() -> None:
    e = spread()
    exact = second_moment(e.flatten(0, 1)) / (len(e) * 5)
    by_median, by_mean = estimated(e).C, estimated(e, unit="mean").C
    others = exact.diagonal()[1:]
    assert float((by_median.diagonal()[1:] / others).max()) < 1.02
    assert float((by_mean.diagonal()[1:] / others).min()) > 100


def test_products_in_float32_change_no_similarity_by_a_thousandth() -> None:
    """Compared with float64, at the condition and the scales of real encodings and worse."""
    draw = torch.Generator().manual_seed(5)
    d, n = 256, 20_000
    scale = torch.logspace(0, -3, d)
    scale[3] = 100.0
    basis = torch.linalg.qr(torch.randn((d, d), generator=draw))[0]
    rows = (torch.randn((n, d), generator=draw) * scale) @ basis
    exact = rows.double().T @ rows.double()
    ours = sum(second_moment(part) for part in rows.split(4928))
    assert isinstance(ours, Tensor) and ours.dtype == torch.float64
    size = exact.diagonal().sqrt()
    assert float(((ours - exact) / (size[:, None] * size)).abs().max()) < 2e-6
    found = []
    for total in (ours, exact):
        C = total / n
        C += 1e-3 * C.diagonal().median() * torch.eye(d)
        i, e = rows[:8].double(), rows[100:400].double()
        a = torch.linalg.solve(C, i.T).T
        found.append(e @ a.T / (i * a).sum(-1))
    assert float((found[0] - found[1]).abs().max()) < 1e-3


def test_tf32_is_off_during_a_product_and_as_before_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bool] = []
    matmul = torch.Tensor.__matmul__

    def watched(self: Tensor, other: Tensor) -> Tensor:
        seen.append(torch.backends.cuda.matmul.allow_tf32)
        return matmul(self, other)

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    usual = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        second_moment(torch.ones(2, 3))
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = usual
    assert seen == [False]


@pytest.fixture
def own(tiny: Callable[[str], BaseModel]) -> BaseModel:
    """A base model whose covariance a test may change."""
    return BaseModel.from_pipeline(tiny_pipeline("sd1"), name="t", device="cpu")


def test_content_positions_are_the_captions_own_tokens(own: BaseModel) -> None:
    tokenizer = own.tokenizers[0]
    batch = ["a cat", "", "a dog on the beach " * 20]
    places = content_positions(tokenizer, batch)
    assert places.shape == (3, tokenizer.model_max_length)
    counts = [len(tokenizer(text, add_special_tokens=False).input_ids) for text in batch]
    assert places.sum(1).tolist() == [
        min(count, tokenizer.model_max_length - 2) for count in counts
    ]
    assert not bool(places[:, 0].any()) and places[0, 1:3].all()


@pytest.mark.parametrize("positions", ["all", "content", "one-per-caption"])
def test_the_positions_that_count_can_be_chosen(positions: Positions) -> None:
    """Of five positions, each with an encoding of its own, three are the caption's tokens."""
    made = estimate(
        ["x"] * 300, lambda batch: torch.eye(5).expand(len(batch), 5, 5), ridge=1e-9,
        base_model_fingerprint="f", positions=positions, ridge_unit="mean",
        content=lambda batch: torch.tensor([[False, True, True, True, False]] * len(batch)),
    )  # fmt: skip
    share = made.C.diagonal()
    assert float(share.sum()) == pytest.approx(1)
    if positions == "all":
        assert share.tolist() == pytest.approx([0.2] * 5)
    else:
        assert float(share[0]) < 1e-6 and float(share[4]) < 1e-6
        slack = 1e-6 if positions == "content" else 0.1
        assert share[1:4].tolist() == pytest.approx([1 / 3] * 3, abs=slack)
        # A random choice is hardly ever exactly even.
        assert (float(share[1:4].std()) > 1e-3) is (positions == "one-per-caption")


def test_other_positions_and_another_ridge_give_the_covariance_another_name(
    own: BaseModel,
) -> None:
    texts = ["a cat on the beach"] * 100
    kinds: tuple[Positions, ...] = ("all", "content", "one-per-caption")
    names = [own.estimate_covariance(texts, positions=kind).fingerprint for kind in kinds]
    assert len(set(names)) == 3
    assert names == [own.estimate_covariance(texts, positions=kind).fingerprint for kind in kinds]
    e = spread()
    assert estimated(e).fingerprint != estimated(e, unit="mean").fingerprint
