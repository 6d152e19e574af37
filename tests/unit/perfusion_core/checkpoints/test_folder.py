"""A diffusers folder is read from the weights that it has, and pickles hold weights or nothing."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from perfusion_core.checkpoints.files import choose_weights
from perfusion_core.checkpoints.reading import read_checkpoint
from perfusion_core.errors import BaseModelError
from tests.unit.perfusion_core.conftest import tiny_pipeline, unet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole folder of Stable Diffusion 1.x, tiny."""
    tiny_pipeline("sd1").save_pretrained(tmp_path)
    return tmp_path


def index(folder: Path, **changes: object) -> None:
    """Change entries of the model_index.json."""
    file = folder / "model_index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


class Evil:
    """A pickle that creates a file when it is loaded by a loader that runs code."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.file),)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_pickle_with_code_is_refused_and_its_code_is_not_run(folder: Path, part: str) -> None:
    (weights,) = (folder / part).glob("*.safetensors")
    names = {"unet": "diffusion_pytorch_model.bin", "text_encoder": "pytorch_model.bin"}
    ran = folder / "ran"
    torch.save({**load_file(weights), "more": Evil(ran)}, folder / part / names[part])
    weights.unlink()
    with pytest.raises(BaseModelError, match=f"The {part} of 'm' is a pickle that holds more"):
        read_checkpoint(folder, name="m")
    assert not ran.exists()
    pickle.loads(pickle.dumps(Evil(ran)))
    assert ran.exists()  # so the pickle would have


def test_a_safety_checker_is_not_loaded(folder: Path) -> None:
    index(folder, safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
          feature_extractor=["transformers", "CLIPImageProcessor"])  # fmt: skip
    pipeline = read_checkpoint(folder, name="m")
    assert pipeline.safety_checker is None and pipeline.feature_extractor is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"_class_name": "StableDiffusionInpaintPipeline"}, "'m' is an inpainting model"),
        (
            {
                "_class_name": "StableDiffusionXLImg2ImgPipeline",
                "text_encoder": [None, None],
                "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            },
            "'m' is a refiner .* Use the base model",
        ),
        (
            {"_class_name": "KandinskyPipeline", "text_encoder": ["kandinsky", "MultilingualCLIP"]},
            "'m' is a KandinskyPipeline, which is not supported. Use a text-to-image model of the",
        ),
        ({"scheduler": ["diffusers", "EDMEulerScheduler"]}, "trained with EDM's noise"),
        ({"scheduler": ["mine", "MyScheduler"]}, "MyScheduler is unknown"),
    ],
)
def test_other_pipelines_are_refused_by_name(
    folder: Path, changes: dict[str, object], sentence: str
) -> None:
    index(folder, **changes)
    with pytest.raises(BaseModelError, match=sentence):
        read_checkpoint(folder, name="m")


def test_an_inpainting_unet_is_refused_whatever_its_pipeline_is_called(folder: Path) -> None:
    unet(32, in_channels=9).save_pretrained(folder / "unet")
    with pytest.raises(BaseModelError, match="9 input channels, as inpainting models have"):
        read_checkpoint(folder, name="m")


def test_a_missing_or_damaged_file_is_named(folder: Path) -> None:
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"half a file")
    with pytest.raises(BaseModelError, match="The vae of 'm' cannot be loaded"):
        read_checkpoint(folder, name="m")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(folder / "vae" / "vae.gguf")
    with pytest.raises(BaseModelError, match=r"The vae of 'm' has no weights.*It holds vae/vae\.g"):
        read_checkpoint(folder, name="m")


def test_a_missing_tokenizer_is_named(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(BaseModelError, match="The tokenizer of 'm' cannot be loaded"):
        read_checkpoint(folder, name="m")


def test_full_precision_comes_before_half_and_safetensors_before_pickles() -> None:
    shards = [f"unet/diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    listed = "unet/diffusion_pytorch_model.safetensors.index.json"
    half = "unet/diffusion_pytorch_model.fp16.safetensors"
    pickles = ["unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.bin"]
    others = ["unet/diffusion_pytorch_model.non_ema.safetensors", "unet/model.onnx"]

    def chosen(*files: str) -> tuple[set[str], str | None, bool]:
        weights = choose_weights("unet", [*files, *others], name="m")
        return set(weights.files), weights.variant, weights.safetensors

    assert chosen(*shards, listed, half, *pickles) == ({*shards, listed}, None, True)
    assert chosen(half, *pickles) == ({half}, "fp16", True)
    assert chosen(*pickles) == ({pickles[0]}, None, False)
    assert chosen(pickles[1]) == ({pickles[1]}, "fp16", False)
    with pytest.raises(BaseModelError, match="no weights that can be loaded"):
        chosen()
