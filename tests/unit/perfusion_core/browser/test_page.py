"""The files of a browser page draw what torch draws, and say nothing about who made them."""

import json
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import pytest
import torch

from perfusion_core.base_model import BaseModel
from perfusion_core.browser import graphs, weights
from perfusion_core.browser.page import STEPS, make_files
from perfusion_core.browser.prompts import open_prompt
from perfusion_core.conditioning import ConceptUse
from perfusion_core.config import GenerateConfig
from perfusion_core.covariance.captions import captions
from perfusion_core.errors import BaseModelError
from perfusion_core.imaging import provenance
from tests.unit.perfusion_core.browser.drawing import drawn_by_graphs, drawn_by_torch, session
from tests.unit.perfusion_core.conftest import tiny_pipeline
from tests.unit.perfusion_core.test_conditioning import concept_like

PROMPT = "a photo of <x> at night"


@pytest.fixture(scope="module")
def base() -> BaseModel:
    made = BaseModel.from_pipeline(
        tiny_pipeline("sd1", prediction_type="v_prediction"), name="tiny", device="cpu"
    )
    made.estimate_covariance(captions(300, known=made.knows_word))
    return made


@pytest.fixture(scope="module")
def use(base: BaseModel) -> ConceptUse:
    return ConceptUse(concept_like(base, "robot"), 0.6)


@pytest.fixture(scope="module")
def files(base: BaseModel, use: ConceptUse) -> dict[str, bytes]:
    runtime = {"runtime.mjs": b"code", "runtime.bin": b"wasm"}
    return make_files(
        base, {PROMPT: {"x": use}}, runtime=runtime, unet="float32", decoder="float32"
    )


def test_the_graphs_draw_the_image_that_torch_draws(
    base: BaseModel, use: ConceptUse, files: dict[str, bytes]
) -> None:
    config = GenerateConfig(guidance_scale=7.5)
    opened = open_prompt(base, PROMPT, {"x": use}, config=config)
    packed = opened.packed(torch.tensor([0.6]), torch.tensor([use.tau])).numpy()
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3)).numpy()
    told = drawn_by_graphs(files, packed, noise)
    assert np.abs(told - drawn_by_torch(base, PROMPT, {"x": use}, noise)).max() <= 1


def test_the_page_is_told_of_every_part(base: BaseModel, files: dict[str, bytes]) -> None:
    told = json.loads(files["drawing.json"])
    assert told["packed"] == [2, 32, base.packed_width]
    assert provenance.MADE_BY_A_MODEL in told["prompts"][0]["xmp"]
    assert escape(PROMPT) in told["prompts"][0]["xmp"]
    assert told["latents"] == [1, 4, 8, 8] and told["side"] == 16
    assert len(told["steps"]) == STEPS
    [prompt] = told["prompts"]
    assert prompt["text"] == PROMPT
    assert prompt["concepts"] == [
        {"placeholder": "<x>", "superclass": "robot", "beta": 0.6, "tau": 0.15}
    ]
    assert len(prompt["similarities"]) == 2 * 32
    parts = np.frombuffer(files[prompt["file"]], "<f2")
    assert parts.size == 2 * 32 * base.packed_width + base.packed_width
    loaded = [data for name, data in files.items() if name not in ("drawing.json", "runtime.mjs")]
    assert told["bytes"] == sum(len(data) for data in loaded)


def test_no_file_names_a_folder_of_the_machine_that_made_it(files: dict[str, bytes]) -> None:
    root = str(Path(graphs.__file__).parents[2]).encode()
    assert [name for name, data in files.items() if root in data or b"site-packages" in data] == []


@pytest.mark.parametrize("axis", [0, 1])
def test_int8_keeps_each_channel_within_half_a_step_of_its_own_scale(axis: int) -> None:
    weight = np.random.default_rng(5).standard_normal((6, 8)).astype(np.float32)
    weight *= np.geomspace(1e-3, 1e3, 8) if axis else np.geomspace(1e-3, 1e3, 6)[:, None]
    weight[0, :], weight[:, 0] = 0, 0  # a channel without weights stays one
    integers, scale = weights.quantised(weight, axis=axis)
    spread = scale if axis else scale[:, None]
    assert integers.dtype == np.int8 and scale.dtype == np.float32
    assert (np.abs(integers * spread - weight) <= spread * 0.5001).all()


def test_stored_in_fewer_bytes_a_graph_predicts_nearly_the_same(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "_SMALL", 16)  # the base model is tiny
    graph = graphs.decoder_graph(base)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4)).numpy()
    exact = weights.stored(graph, "float32")
    (expected,) = session(exact).run(None, {"latents": latents})
    bounds: dict[weights.Storage, int] = {"float16": 1, "int8": 8}
    for storage, most in bounds.items():
        fewer = weights.stored(graph, storage)
        assert len(fewer) < len(exact)
        (told,) = session(fewer).run(None, {"latents": latents})
        assert np.abs(told - expected).max() <= most


def test_a_base_model_that_no_page_can_draw_with_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sdxl = BaseModel.from_pipeline(tiny_pipeline("sdxl"), name="large", device="cpu")
    with pytest.raises(BaseModelError, match="takes more than Keys and Values"):
        graphs.check(sdxl)
    monkeypatch.setattr(graphs, "_MOST_WEIGHTS", 1000)
    with pytest.raises(BaseModelError, match="name a smaller base model"):
        graphs.check(sdxl)
