"""What computes the U-Net is chosen by device, size and a measurement, and never in silence."""

import logging
from typing import Any

import pytest
import torch

from perfusion_core.backends import choice, openvino_graph
from perfusion_core.backends.backend import Backend, UNetInput
from perfusion_core.backends.choice import choose_backend
from perfusion_core.backends.openvino_graph import OpenVinoBackend, knows_bfloat16
from perfusion_core.base_model import BaseModel
from perfusion_core.devices.options import AUTO, BackendName, DeviceOptions
from perfusion_core.errors import BaseModelError
from tests.unit.perfusion_core.conftest import tiny_pipeline


class Wrong(OpenVinoBackend):
    """A graph whose predictions are not the U-Net's."""

    def __call__(self, rows: UNetInput) -> torch.Tensor:
        return super().__call__(rows) + 1


def choose(base: BaseModel, options: DeviceOptions) -> Backend:
    return choose_backend(base.unet, options, device=base.device, packed_width=base.packed_width)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return BaseModel.from_pipeline(tiny_pipeline("sd1"), name="tiny", device="cpu")


@pytest.fixture
def large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_WORTH_A_GRAPH", 0)


def test_a_small_unet_stays_in_torch(base: BaseModel) -> None:
    assert choose(base, AUTO).name == "eager"


def test_a_graph_that_is_asked_for_is_made_whatever_the_size(base: BaseModel) -> None:
    graph = choose(base, DeviceOptions(backend="openvino"))
    assert graph.name == "openvino"
    assert graph.precision == ("bfloat16" if knows_bfloat16() else "float32")


def test_float32_refuses_bfloat16(base: BaseModel) -> None:
    assert choose(base, DeviceOptions(backend="openvino", dtype="float32")).precision == "float32"


@pytest.mark.parametrize("name", ["cuda-graphs", "compiled"])
def test_a_graph_of_another_device_is_refused(base: BaseModel, name: BackendName) -> None:
    with pytest.raises(BaseModelError, match=f"{name} cannot be used: it is not for cpu"):
        choose(base, DeviceOptions(backend=name))


@pytest.mark.usefixtures("large_enough")
def test_a_unet_that_leaves_its_device_stays_in_torch(base: BaseModel) -> None:
    def chosen(options: DeviceOptions) -> Backend:
        return choose_backend(
            base.unet, options, device=base.device, packed_width=base.packed_width,
            leaves_device=True,
        )  # fmt: skip

    assert chosen(AUTO).name == "eager"
    with pytest.raises(BaseModelError, match="it is offloaded"):
        chosen(DeviceOptions(backend="openvino"))


@pytest.mark.usefixtures("large_enough")
@pytest.mark.parametrize(("ratio", "name"), [(0.5, "openvino"), (0.95, "eager")])
def test_a_graph_is_kept_if_it_is_clearly_faster(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, ratio: float, name: str
) -> None:
    seconds = iter([ratio, 1.0] * 3)
    monkeypatch.setattr(choice, "_seconds", lambda *_: next(seconds))
    assert choose(base, AUTO).name == name


@pytest.mark.usefixtures("large_enough")
def test_a_graph_that_does_not_fit_into_free_memory_is_not_begun(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "free_bytes", lambda _: 1000)
    monkeypatch.setattr(choice, "_graph", lambda *_, **__: pytest.fail("a graph was begun"))
    assert choose(base, AUTO).name == "eager"


@pytest.mark.usefixtures("large_enough")
def test_a_graph_that_predicts_something_else_is_not_used_and_the_log_says_so(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(openvino_graph, "OpenVinoBackend", Wrong)
    with caplog.at_level(logging.WARNING):
        assert choose(base, AUTO).name == "eager"
    assert "differ by" in caplog.text
    with pytest.raises(BaseModelError, match="PERFUSION_BACKEND to auto or eager"):
        choose(base, DeviceOptions(backend="openvino"))


@pytest.mark.usefixtures("large_enough")
def test_a_mistake_in_a_backend_is_not_taken_for_a_missing_one(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*_: Any, **__: Any) -> None:
        raise TypeError("a mistake")

    monkeypatch.setattr(openvino_graph, "OpenVinoBackend", mistaken)
    with pytest.raises(TypeError, match="a mistake"):
        choose(base, AUTO)


def test_the_shipped_model_runs_as_a_graph(shipped: BaseModel) -> None:
    assert shipped.backend.name == "openvino"
