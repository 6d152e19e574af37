"""Pretrained models come from weights alone, at the revision that a name pins."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPSegConfig,
    CLIPSegForImageSegmentation,
    CLIPSegProcessor,
)

from perfusion_core.base_model import BaseModel
from perfusion_core.errors import BaseModelError
from perfusion_core.evaluators.similarity import Evaluator
from perfusion_core.fingerprint import fingerprint_of_module
from perfusion_core.hub import find_folder, split_revision
from perfusion_core.pictures.masks import Segmenter
from tests.unit.perfusion_core.conftest import SHIPPED, TOKENIZER
from tests.unit.perfusion_core.hub_server import Hub, commit_of, serving

TEXT = {
    "vocab_size": len(TOKENIZER), "hidden_size": 16, "intermediate_size": 32, "projection_dim": 8,
    "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32,
    "bos_token_id": TOKENIZER.bos_token_id, "eos_token_id": TOKENIZER.eos_token_id,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "image_size": 352, "patch_size": 16, "projection_dim": 8,
}  # fmt: skip


def save_clip(folder: Path, *, seed: int = 1) -> Path:
    """A tiny CLIPModel, random and whole."""
    torch.manual_seed(seed)
    vision = {**VISION, "image_size": 32}
    model = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=8))
    model.save_pretrained(folder)
    CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def save_clipseg(folder: Path) -> Path:
    """A tiny CLIPSeg."""
    torch.manual_seed(2)
    config = CLIPSegConfig(
        text_config=TEXT, vision_config=VISION, projection_dim=8, extract_layers=[0, 1, 2],
        reduce_dim=8, decoder_num_attention_heads=2, decoder_intermediate_size=16,
    )  # fmt: skip
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    images = CLIPImageProcessorPil(
        size={"height": 352, "width": 352}, do_center_crop=False, do_resize=True
    )
    CLIPSegProcessor(images, TOKENIZER).save_pretrained(folder)
    return folder


def as_pickle(folder: Path) -> Path:
    """The same weights, as torch.save writes them, in the place of the safetensors."""
    from safetensors.torch import load_file

    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    return folder


def test_a_name_may_pin_a_revision_and_a_folder_is_never_split(tmp_path: Path) -> None:
    assert split_revision("openai/clip@3d74acf9") == ("openai/clip", "3d74acf9")
    assert split_revision("openai/clip@refs/pr/7") == ("openai/clip", "refs/pr/7")
    assert split_revision("openai/clip") == ("openai/clip", None)
    folder = tmp_path / "model@home"
    folder.mkdir()
    assert split_revision(folder) == (str(folder), None)
    for wrong in ("openai/clip@", "@main"):
        with pytest.raises(BaseModelError, match="NAME@REVISION"):
            split_revision(wrong)


class _Code:
    """What a pickle may hold besides weights: a call that is made while the file is read."""

    def __init__(self, made: Path) -> None:
        self._made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._made,)


@pytest.mark.parametrize("kind", ["evaluator", "segmenter"])
def test_weights_are_safetensors_or_a_bin_of_weights_alone(tmp_path: Path, kind: str) -> None:
    folder = (save_clip if kind == "evaluator" else save_clipseg)(tmp_path / "model")

    def use() -> Any:
        if kind == "segmenter":
            return Segmenter(folder).model
        return Evaluator(folder)._model

    expected = fingerprint_of_module(use())
    as_pickle(folder)
    assert fingerprint_of_module(use()) == expected
    torch.save({"weights": _Code(tmp_path / "made")}, folder / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match=f"The {kind} .* cannot be loaded"):
        use()
    assert not (tmp_path / "made").exists()
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(BaseModelError, match=rf"{kind} '.*model' has neither model\.safetensors"):
        use()


def test_an_evaluator_of_clip_ls_shape_takes_images_and_texts_of_any_size(tmp_path: Path) -> None:
    """Tiny and random, with the picture size, patches, text length and processor of ViT-L/14."""
    torch.manual_seed(1)
    text = {**TEXT, "max_position_embeddings": 77}
    vision = {**VISION, "image_size": 224, "patch_size": 14}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(tmp_path)
    CLIPImageProcessorPil().save_pretrained(tmp_path)  # its defaults are those of ViT-L/14
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.model_max_length = 77
    tokenizer.save_pretrained(tmp_path)
    evaluator = Evaluator(tmp_path)
    sides = [(1024, 512), (40, 300), (224, 224)]
    images = evaluator.embed_images([Image.new("RGB", size, "red") for size in sides])
    texts = evaluator.embed_texts(["a robot", "a robot " * 100])
    for vectors in (images, texts):
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)))
    assert torch.allclose(images[0], images[2], atol=1e-4)


@pytest.mark.parametrize("load", [Evaluator, Segmenter])
def test_weights_beside_safetensors_are_not_looked_at(tmp_path: Path, load: Any) -> None:
    folder = (save_clip if load is Evaluator else save_clipseg)(tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(b"no weights at all")
    load(folder)


def test_an_adapter_beside_a_model_is_refused(tmp_path: Path) -> None:
    """Its weights may be a pickle, and its configuration may name another model to load."""
    clip = save_clip(tmp_path / "clip")
    (clip / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(BaseModelError, match="belongs to an adapter"):
        find_folder(clip, role="evaluator")
    model = shutil.copytree(SHIPPED, tmp_path / "base")
    (model / "unet" / "adapter_config.json").write_text("{}")
    with pytest.raises(BaseModelError, match="belongs to an adapter"):
        BaseModel.load(model, device="cpu")


CODE = """
import json, sys
from pathlib import Path
from perfusion_core.base_model import BaseModel
from perfusion_core.errors import BaseModelError
from perfusion_core.pictures.masks import Segmenter
from perfusion_core.evaluators.similarity import Evaluator

asked, covariance = json.loads(sys.argv[1]), Path(sys.argv[2])
told = {}
for name in asked["evaluators"]:
    try:
        ref = Evaluator(name).ref
        told[name] = [ref.name, ref.fingerprint]
    except BaseModelError as error:
        told[name] = str(error)
Segmenter(asked["segmenter"])
base = BaseModel.load(asked["base"], device="cpu", covariance_dir=covariance)
told["base"] = [base.name, base.fingerprint]
print(json.dumps(told))
"""


@pytest.mark.slow
def test_a_hub_is_asked_for_the_pinned_revision_and_for_weights_in_one_form(
    tmp_path: Path, shipped: BaseModel
) -> None:
    today, pinned = (save_clip(tmp_path / f"clip{seed}", seed=seed) for seed in (1, 2))
    (pinned / "pytorch_model.bin").write_bytes(b"no weights at all")
    (pinned / "adapter_config.json").write_text('{"base_model_name_or_path": "another/model"}')
    hub = Hub(
        {
            "a/clip@main": today,
            "a/clip@earlier": pinned,
            "a/pickle@main": as_pickle(save_clip(tmp_path / "pickle")),
            "a/clipseg@v1": save_clipseg(tmp_path / "clipseg"),
            "a/base@earlier": SHIPPED,
        }
    )
    shipped.covariance.save(shipped.covariance_path(tmp_path))
    commit = commit_of("a/clip@earlier")
    names = ["a/clip", f"a/clip@{commit}", "a/pickle", "a/clip@nowhere"]
    base = f"a/base@{commit_of('a/base@earlier')}"
    asked = {"evaluators": names, "segmenter": "a/clipseg@v1", "base": base}
    with serving(hub):
        done = subprocess.run(
            [sys.executable, "-c", CODE, json.dumps(asked), tmp_path],
            env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["a/clip"] == ["a/clip", Evaluator(today).ref.fingerprint]
    assert told[names[1]] == [names[1], _fingerprint_without(pinned)]
    assert told["a/pickle"] == ["a/pickle", Evaluator(tmp_path / "pickle").ref.fingerprint]
    assert "cannot be fetched" in told["a/clip@nowhere"]
    assert told["base"] == [base, shipped.fingerprint]
    assert "a/clip/model.safetensors" in hub.fetched
    other = [file for file in hub.fetched if file.endswith(".bin") or "adapter" in file]
    assert other == ["a/pickle/pytorch_model.bin"]


def _fingerprint_without(folder: Path) -> str:
    """Of an evaluator whose folder has files that are never downloaded."""
    (folder / "adapter_config.json").unlink()
    return Evaluator(folder).ref.fingerprint
