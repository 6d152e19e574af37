"""A hub gives the files that the pipeline is read from, and no others; the bytes are counted."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest

from perfusion_core.base_model import BaseModel
from perfusion_core.checkpoints.fetching import fetch, sizes_of_base_model
from perfusion_core.errors import BaseModelError
from tests.unit.perfusion_core.conftest import tiny_pipeline
from tests.unit.perfusion_core.hub_server import Hub, commit_of, serving


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[[str], BaseModel]) -> Path:
    """A repository as the hub has many: float32, float16, pickles, a safety checker, a big file."""
    folder = tmp_path_factory.mktemp("repository")
    pipeline = tiny_pipeline("sd1")
    pipeline.save_pretrained(folder)
    pipeline.save_pretrained(folder, variant="fp16")
    pipeline.save_pretrained(folder, safe_serialization=False)
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    for extra in ("safety_checker/config.json", "safety_checker/model.safetensors",
                  "feature_extractor/preprocessor_config.json", "v1-5-pruned.safetensors",
                  "unet/diffusion_pytorch_model.non_ema.safetensors", "unet/model.onnx",
                  "unet/diffusion_flax_model.msgpack"):  # fmt: skip
        (folder / extra).parent.mkdir(exist_ok=True)
        (folder / extra).write_bytes(b"not wanted")
    tiny("sd1").covariance.save(folder / "covariance.safetensors")
    (folder / "perfusion.json").write_text('{"generate": {"num_inference_steps": 7}}')
    return folder


def use_hub(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's client of this process ask this address, as HF_ENDPOINT does at its start."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the repository, and the hub's client of this process with an empty cache."""
    flux = tmp_path / "flux"
    flux.mkdir()
    (flux / "model_index.json").write_text(
        '{"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}'
    )
    (flux / "flux1-dev.safetensors").write_bytes(b"24 GB")
    lora = tmp_path / "lora"
    lora.mkdir()
    (lora / "style.safetensors").write_bytes(b"a LoRA")
    with serving(Hub({"a/model@main": repository, "a/flux@main": flux, "a/lora@main": lora})) as it:
        use_hub(it.url, monkeypatch)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield it


def test_one_kind_of_weights_of_each_part_is_fetched_and_no_safety_checker(hub: Hub) -> None:
    folder = fetch("a/model")
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*.*")) == [
        "covariance.safetensors",
        "model_index.json",
        "perfusion.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ]


def test_the_bytes_are_known_before_and_counted_while_they_come(hub: Hub) -> None:
    told: list[tuple[int, int]] = []
    total, missing = sizes_of_base_model("a/model")
    folder = fetch("a/model", progress=lambda done, of: told.append((done, of)))
    there = sum(file.stat().st_size for file in folder.rglob("*.*"))
    assert total == missing == there and told[-1] == (there, there)
    assert sizes_of_base_model("a/model") == (there, 0)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {of for _, of in told} == {there}


def test_what_is_there_is_not_fetched_again_and_serves_without_a_hub(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fetch("a/model")
    hub.fetched.clear()
    assert fetch("a/model") == first == fetch(f"a/model@{commit_of('a/model@main')}")
    assert hub.fetched == []
    use_hub("http://127.0.0.1:9", monkeypatch)
    assert fetch("a/model") == first


def test_a_hub_models_own_defaults_are_read(hub: Hub) -> None:
    base = BaseModel.load("a/model", device="cpu")
    assert (base.name, base.scheduler_config["_class_name"]) == ("a/model", "DDIMScheduler")
    assert base.defaults.generate["num_inference_steps"] == 7


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a/flux", "'a/flux' is a FluxPipeline, which is not supported. Use a text-to-image"),
        ("a/lora", "no model_index.json.*It holds style.safetensors: download"),
        ("a/nothing", "no folder or file 'a/nothing' here, and no such model on the hub"),
        ("a/model@nowhere", "has no revision 'nowhere'"),
        ("/no/such/file.safetensors", "no folder or file '/no/such/file.safetensors'"),
    ],
)
def test_what_cannot_be_used_is_refused_before_its_weights_are_fetched(
    hub: Hub, name: str, sentence: str
) -> None:
    with pytest.raises(BaseModelError, match=sentence):
        fetch(name)
    assert not [file for file in hub.fetched if file.endswith(".safetensors")]


def test_a_hub_that_cannot_be_reached_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(BaseModelError, match="the hub cannot be reached"):
        fetch("a/model")
