"""A single file is read without its code and without a network, and what is no model is named."""

import json
import os
import socket
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
import transformers
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.torch import load_file, save_file
from torch import Tensor

from perfusion_core.checkpoints.layout import family_of
from perfusion_core.checkpoints.prediction import predicts_noise
from perfusion_core.checkpoints.single_file import FAMILIES, read_single_file
from perfusion_core.errors import BaseModelError
from tests.unit.perfusion_core.checkpoints.conftest import Saved
from tests.unit.perfusion_core.checkpoints.original_format import original_state
from tests.unit.perfusion_core.conftest import SHIPPED

PARAMETERS = {
    ("sd1", "unet"): 859_520_964, ("sd1", "vae"): 83_653_863, ("sd1", "text_encoder"): 123_060_480,
    ("sd2", "unet"): 865_910_724, ("sd2", "vae"): 83_653_863, ("sd2", "text_encoder"): 340_387_840,
    ("sdxl", "unet"): 2_567_463_684, ("sdxl", "text_encoder"): 123_060_480,
    ("sdxl", "text_encoder_2"): 694_659_840,
}  # fmt: skip
"""The published sizes."""


class Evil:
    """A pickle that creates a folder when it is loaded by a loader that runs code."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("ran",)


@cache
def full_size(family: str) -> Any:
    """The parts that a shipped configuration describes, in full size and without memory."""
    folder, parts = FAMILIES / family, {}
    index = json.loads((folder / "model_index.json").read_text())
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        with torch.device("meta"):
            if part.startswith("text") and part in index:
                known = getattr(transformers, index[part][1])
                parts[part] = known(known.config_class.from_pretrained(folder / part))
            elif part in index:
                known = getattr(diffusers, index[part][1])
                parts[part] = known.from_config(known.load_config(folder, subfolder=part))
    return SimpleNamespace(**parts)


@pytest.mark.parametrize(("family", "part"), PARAMETERS)
def test_a_shipped_configuration_builds_a_part_of_the_published_size(
    family: str, part: str
) -> None:
    model = getattr(full_size(family), part)
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[family, part]


@pytest.mark.parametrize(("family", "unet_tensors"), [("sd1", 686), ("sd2", 686), ("sdxl", 1680)])
def test_a_full_size_file_fits_its_shipped_configuration(family: str, unet_tensors: int) -> None:
    """Names and shapes alone: diffusers' conversion of the original names gives each tensor."""
    parts = full_size(family)
    state = original_state(parts)
    assert family_of(state, name="m") == family
    converted = convert_ldm_unet_checkpoint(state, dict(parts.unet.config))
    own = parts.unet.state_dict()
    assert {name: tensor.shape for name, tensor in converted.items()} == {
        name: tensor.shape for name, tensor in own.items()
    }
    assert len(own) == unet_tensors


def test_xls_vae_has_its_own_scale() -> None:
    scales = [full_size(family).vae.config.scaling_factor for family in ("sd1", "sd2", "sdxl")]
    assert scales == [0.18215, 0.18215, 0.13025]


def test_a_single_file_is_read_without_a_network(
    saved: Callable[[str], Saved], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a single file needs no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    files = saved("sdxl")
    pipeline = read_single_file(files.safetensors, name="m", configurations=files.configurations)
    assert (pipeline.tokenizer.pad_token_id, pipeline.tokenizer_2.pad_token_id) == (49407, 0)


def test_a_ckpt_with_code_is_refused_and_its_code_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"w": torch.ones(1)}, "more": Evil()}, "evil.ckpt")
    with pytest.raises(BaseModelError, match=r"evil\.ckpt is a pickle that holds more than"):
        read_single_file(Path("evil.ckpt"), name="evil.ckpt")
    assert not Path("ran").exists()


def test_the_training_records_of_the_first_releases_are_passed_over(
    saved: Callable[[str], Saved], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those files name a class of PyTorch Lightning, which need not be installed."""
    path = "pytorch_lightning.callbacks.model_checkpoint"
    record = type("ModelCheckpoint", (), {"__module__": path})
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", path):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules[path], "ModelCheckpoint", record, raising=False)
    files = saved("sd1")
    state = load_file(files.safetensors)
    old = tmp_path / "old.ckpt"
    torch.save({"callbacks": {record: {"best": 1.0}}, "state_dict": state}, old)
    monkeypatch.undo()
    read_single_file(old, name="m", configurations=files.configurations)


def test_the_shorter_names_of_early_merges_are_known(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    files = saved("sd1")
    state = {
        name.replace("transformer.text_model.", "transformer."): tensor
        for name, tensor in load_file(files.safetensors).items()
    }
    save_file(state, tmp_path / "merge.safetensors")
    pipeline = read_single_file(
        tmp_path / "merge.safetensors", name="m", configurations=files.configurations
    )
    whole = read_single_file(files.safetensors, name="m", configurations=files.configurations)
    theirs, ours = (it.text_encoder.state_dict() for it in (whole, pipeline))
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]
ENTRY = "model.diffusion_model.input_blocks.0.0.weight"


def without(prefix: str) -> Change:
    """Leave out the tensors with this prefix."""
    return lambda state: {k: v for k, v in state.items() if not k.startswith(prefix)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state | {ENTRY: torch.zeros(8, 9, 3, 3)}, "'m' is an inpainting model"),
        (lambda state: state | {ENTRY: torch.zeros(8, 8, 3, 3)}, "'m' is an editing model"),
        (
            lambda state: state | {"conditioner.embedders.0.model.ln_final.weight": torch.ones(1)},
            "'m' is a refiner",
        ),
        (without("first_stage_model."), "'m' holds no VAE"),
        (without("cond_stage_model."), "'m' holds no text encoder"),
        (without("model.diffusion_model."), "'m' holds no U-Net"),
        (without("model.diffusion_model.out.2.bias"), "The unet in 'm' is incomplete"),
        (without("first_stage_model.decoder.conv_in.bias"), "The vae in 'm' is incomplete"),
        (
            without("cond_stage_model.transformer.text_model.final_layer_norm.bias"),
            "The text_encoder in 'm' is incomplete",
        ),
        (
            lambda state: state | {"model.diffusion_model.out.2.bias": torch.zeros(7)},
            "The unet in 'm' is incomplete or of another size",
        ),
        (lambda _: {"lora_unet_mid.lora_down.weight": torch.ones(1)}, "'m' is a LoRA"),
        (lambda _: {"double_blocks.0.img_attn.proj.weight": torch.ones(1)}, "'m' is a Flux model"),
        (lambda _: {"joint_blocks.0.x.weight": torch.ones(1)}, "a Stable Diffusion 3 model"),
    ],
)
def test_a_file_that_is_no_whole_model_is_refused_by_name(
    change: Change, sentence: str, saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    files = saved("sd1")
    file = tmp_path / "m.safetensors"
    save_file(change(load_file(files.safetensors)), file)
    with pytest.raises(BaseModelError, match=sentence):
        read_single_file(file, name="m", configurations=files.configurations)


def test_a_damaged_file_and_another_format_are_refused(tmp_path: Path) -> None:
    for name, sentence in (
        ("half.safetensors", r"half\.safetensors is no whole safetensors file"),
        ("half.ckpt", r"half\.ckpt is "),
        ("model.gguf", r"model\.gguf is of a format that is not read"),
    ):
        (tmp_path / name).write_bytes(b"half a file")
        with pytest.raises(BaseModelError, match=sentence):
            read_single_file(tmp_path / name, name=name)


def scheduler_of(files: Saved, file: Path, state: dict[str, Tensor], **written: str) -> Any:
    """Save the state as a single file and read its scheduler's configuration."""
    save_file(state, file, metadata=written)
    return read_single_file(file, name="m", configurations=files.configurations).scheduler.config


def test_what_an_author_wrote_about_the_prediction_is_followed(
    saved: Callable[[str], Saved], tmp_path: Path
) -> None:
    files = saved("sd1")
    state = load_file(files.safetensors)
    file = tmp_path / "m.safetensors"
    assert scheduler_of(files, file, state).prediction_type == "epsilon"
    told = scheduler_of(files, file, state, **{"modelspec.prediction_type": "v"})
    assert told.prediction_type == "v_prediction"
    marks = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    told = scheduler_of(files, file, {**state, **marks})
    assert told.prediction_type == "v_prediction"
    assert told.rescale_betas_zero_snr and told.timestep_spacing == "trailing"
    file.with_suffix(".yaml").write_text("model:\n  params:\n    parameterization: 'v'\n")
    assert scheduler_of(files, file, state).prediction_type == "v_prediction"


def test_a_trained_unet_shows_what_it_predicts() -> None:
    """The shipped model predicts velocity; the same model, asked for its noise, predicts noise."""
    unet = diffusers.UNet2DConditionModel.from_pretrained(
        SHIPPED, subfolder="unet", dtype=torch.float32
    )
    scheduler = diffusers.DDIMScheduler.from_pretrained(SHIPPED, subfolder="scheduler")
    assert not predicts_noise(unet, scheduler)

    class AsNoise:
        """The velocity of the shipped model as the noise that it means."""

        config, dtype = unet.config, unet.dtype

        def __call__(self, latent: Tensor, time: int, encoder_hidden_states: Tensor) -> Any:
            out = unet(latent, time, encoder_hidden_states=encoder_hidden_states)
            alpha = scheduler.alphas_cumprod[time]
            out.sample = alpha.sqrt() * out.sample + (1 - alpha).sqrt() * latent
            return out

    assert predicts_noise(AsNoise(), scheduler)
