"""What the paper's comparison rests on: its ablations, its arithmetic, and that it goes on."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.paper.baselines import Options, custom_diffusion, lora, textual_inversion
from benchmarks.paper.compare import compare
from benchmarks.paper.front import nearest
from benchmarks.paper.measures import interval, scene_overlap
from benchmarks.paper.method import BASE_FOLDER
from benchmarks.paper.perfusion import Change, Perfusion, changed
from benchmarks.paper.sizes import of_sd15, stored_bytes
from benchmarks.paper.subjects import REPORTED, TUNED, Photo, Subject, photograph, prompts_of
from perfusion_core import BaseModel, conditioning, rank_one
from perfusion_core.conditioning import ConceptUse, condition
from perfusion_core.similarity import Evaluator


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return BaseModel.load(BASE_FOLDER)


@pytest.fixture(scope="module")
def metric() -> rank_one.Metric:
    a = torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return rank_one.Metric.of(a @ a.T + torch.eye(8, dtype=torch.float64))


def _decomposed(i: torch.Tensor, metric: rank_one.Metric, beta: float = 0.7) -> rank_one.Edit:
    e = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gates = torch.full((len(i),), beta, dtype=torch.float64)
    return conditioning.decompose(e, i, metric=metric, beta=gates, tau=gates / 5, apart=True)


def _concepts(count: int) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_no_subject_is_both_tuned_on_and_reported() -> None:
    assert not set(TUNED) & set(REPORTED)
    assert len(REPORTED) >= 12
    assert len({subject.superclass for subject in REPORTED}) >= 8
    assert all(len(set(prompts_of(subject))) >= 10 for subject in REPORTED)


def test_removing_one_by_one_is_the_joint_edit_for_one_concept_alone(
    metric: rank_one.Metric,
) -> None:
    for count, same in ((1, True), (2, False)):
        joint = _decomposed(_concepts(count), metric).e_perp
        with changed("removed one by one"):
            apart = _decomposed(_concepts(count), metric).e_perp
        assert torch.allclose(joint, apart) is same


def test_without_a_gate_beta_changes_nothing_and_a_concepts_own_encoding_opens_fully(
    metric: rank_one.Metric,
) -> None:
    i = _concepts(1)
    with changed("no gate"):
        low, high = (_decomposed(i, metric, beta).gate for beta in (0.2, 0.9))
        own = conditioning.decompose(
            i[None], i, metric=metric, beta=torch.tensor([0.7]), tau=torch.tensor([0.1])
        ).gate
    assert torch.equal(low, high)
    assert torch.allclose(own, torch.ones_like(own))


def test_published_gates_are_those_of_equation_three(metric: rank_one.Metric) -> None:
    i = _concepts(2)
    apart = _decomposed(i, metric).gate
    with changed("published gates"):
        published = _decomposed(i, metric).gate
    assert bool((apart <= published).all()) and not torch.equal(apart, published)


def test_an_ablation_leaves_no_trace(metric: rank_one.Metric) -> None:
    before = conditioning.decompose
    with changed("no gate"):
        assert conditioning.decompose is not before
    assert conditioning.decompose is before


def test_keys_are_trained_in_the_ablation_alone_and_are_drawn_with(base: BaseModel) -> None:
    subject = TUNED[0]
    trained = {}
    changes: tuple[Change, ...] = ("", "keys trained")
    for change in changes:
        method = Perfusion(base, schedule={2: (0.88,)}, change=change)
        (trained[change],) = method.learn(subject, photograph(subject), seed=0)
    ours, ablated = trained[""], trained["keys trained"]
    assert ablated.stored_bytes == ours.stored_bytes + ours.concept.o_v.nbytes
    use = {"x": ConceptUse(ablated.concept, beta=0.7)}
    locked = condition(base, "a photo of a <x>", concepts=use).packed
    with changed("keys trained", ablated._keys):
        own = condition(base, "a photo of a <x>", concepts=use).packed
    keys, at = torch.zeros(locked.shape[1], dtype=torch.bool), 0
    for layer in base.layers:
        width = len(layer.W_K)
        keys[at : at + width], at = True, at + 2 * width
    assert torch.equal(own[:, ~keys], locked[:, ~keys])
    assert not torch.allclose(own[:, keys], locked[:, keys])


def _of_all_subjects(*points: tuple[float, float], scatter: float = 0.0) -> np.ndarray:
    """Twelve subjects that differ, each by as much in every method; `scatter`: and in this one."""
    own = np.random.default_rng(0).normal(0, 0.2, (12, 1, 1))
    return np.array(points) + own + np.random.default_rng(1).normal(0, scatter, (12, 1, 2))


def test_a_sweep_is_compared_where_it_keeps_the_text() -> None:
    ours = _of_all_subjects((0.4, 0.9), (0.5, 0.8), (0.6, 0.7))
    assert nearest(ours, _of_all_subjects((0.45, 0.5))).dial == 1
    assert nearest(ours, _of_all_subjects((0.9, 0.1))).dial == 2


def test_who_is_above_is_decided_within_subjects_by_the_interval() -> None:
    ours = _of_all_subjects((0.4, 0.9), (0.6, 0.7))
    for other, verdict in (((0.5, 0.6), "above"), ((0.6, 0.8), "below"), ((0.7, 0.1), "trade")):
        assert nearest(ours, _of_all_subjects(other, scatter=0.01)).verdict == verdict
    assert nearest(ours, _of_all_subjects((0.59, 0.69), scatter=0.2)).verdict == "tie"


def test_the_interval_is_students() -> None:
    mean, half = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.303 / 3**0.5, rel=1e-3)


def test_a_scene_is_told_by_the_edges_whatever_the_subject_does() -> None:
    beach = Image.new("RGB", (64, 64), (90, 170, 220))
    with_hat, on_a_wall = beach.copy(), Image.new("RGB", (64, 64), (230, 225, 220))
    with_hat.paste((40, 30, 60), (10, 10, 54, 64))
    on_a_wall.paste((40, 30, 60), (10, 10, 54, 64))
    assert scene_overlap([with_hat], [beach]) == pytest.approx(1)
    assert scene_overlap([on_a_wall], [beach]) < 0.1
    assert scene_overlap([with_hat, on_a_wall], [beach, beach]) == pytest.approx(0.5, abs=0.05)


class _Counting:
    """A method that learns nothing, and counts how often."""

    name = "counting, twice"
    schedule: Mapping[int, tuple[float, ...]] = MappingProxyType({1: (0.5, 1.0)})
    seed_count = 2
    stored_bytes = 7
    steps = 1
    seconds = 0.0
    count = 0

    def learn(
        self, subject: Subject, photos: Sequence[Photo], *, seed: int
    ) -> "Iterator[_Counting]":
        self.count += 1
        yield self

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], dial: float) -> list[Image.Image]:
        return [Image.new("RGB", (64, 64), "red") for _ in zip(prompts, seeds, strict=True)]

    def keep(self, file: Path) -> None:
        file.write_text("kept")


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    evaluator, method = Evaluator(BASE_FOLDER.parent / "evaluator"), _Counting()
    first = compare(method, TUNED[:1], evaluator, tmp_path)
    again = compare(method, TUNED[:2], evaluator, tmp_path)
    assert method.count == 2
    assert again[0] == first[0]
    assert [row["dial"] for row in first[0]["rows"]] == [0.5, 1.0]
    assert not list(tmp_path.rglob("*.part"))


def test_sizes_computed_from_shapes_are_those_that_are_stored(base: BaseModel) -> None:
    computed = stored_bytes(base.unet, token_width=len(base.text.tables[0][0]))
    subject = TUNED[0]
    options = Options(schedule={1: (1.0,)}, rate=1e-4, embedding_rate=1e-3)
    baselines = [make(base, options) for make in (textual_inversion, lora, custom_diffusion)]
    for method in (Perfusion(base, schedule={1: (1.0,)}), *baselines):
        (learned,) = method.learn(subject, photograph(subject, 1), seed=0)
        embedding = 4 * 128 if method.name == "lora" else 0  # only its embedding rate is tested
        assert learned.stored_bytes == computed[method.name] + embedding
    assert computed["custom diffusion"] > 100 * computed["perfusion"]
    assert computed["dreambooth"] > 1000 * computed["perfusion"]
    assert of_sd15()["perfusion"] == 4 * (12_480 + 768 + 768)
