"""A fingerprint is of the weights and their places, not of what a library calls them."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from perfusion_core.attention import cross_attention_layers
from perfusion_core.base_model import BaseModel
from perfusion_core.errors import BaseModelError
from perfusion_core.fingerprint import fingerprint_of_module, fingerprints_of_base_model
from tests.unit.perfusion_core.conftest import SHIPPED, tiny_pipeline

FAMILIES = ["sd1", "sdxl"]


def fingerprint(pipeline: Any) -> str:
    return BaseModel.from_pipeline(pipeline, name="any", device="cpu").fingerprint


def encoders(pipeline: Any) -> list[Any]:
    return [part for name, part in pipeline.components.items() if name.startswith("text_encoder")]


def renamed(module: nn.Module, name_of: Callable[[str], str]) -> None:
    """Give every submodule and parameter another name and another place in the registry."""
    for part in list(module.modules()):
        for registry in (part._modules, part._parameters):
            items = [(name_of(name), value) for name, value in registry.items()]
            random.Random(1).shuffle(items)
            registry.clear()
            registry.update(items)  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_text_encoders_whose_parameters_are_renamed_and_reordered_are_the_same(family: str) -> None:
    pipeline = tiny_pipeline(family)
    layers = cross_attention_layers(pipeline.unet)
    before = fingerprints_of_base_model(encoders(pipeline), layers).base_model
    names = [[name for name, _ in part.named_parameters()] for part in encoders(pipeline)]
    for part in encoders(pipeline):
        renamed(part, "of_another_release_{}".format)
    after = [[name for name, _ in part.named_parameters()] for part in encoders(pipeline)]
    assert not {name for part in names for name in part} & {name for part in after for name in part}
    assert fingerprints_of_base_model(encoders(pipeline), layers).base_model == before


@pytest.mark.parametrize("family", FAMILIES)
def test_a_unet_whose_modules_are_renamed_and_registered_otherwise_is_the_same(family: str) -> None:
    pipeline = tiny_pipeline(family)
    before, order = fingerprint(tiny_pipeline(family)), widths_and_weights(pipeline.unet)
    # A block is called by its parts' names, so a U-Net is renamed where the product looks:
    # between a part of the passage and its cross-attention layers.
    unet = pipeline.unet
    for name in ("up_blocks", "mid_block", "down_blocks"):
        unet._modules[name] = unet._modules.pop(name)
    for part in list(unet.modules()):
        for name in ("attentions", "transformer_blocks"):
            if name in part._modules:
                part._modules[f"{name}_of_another_release"] = part._modules.pop(name)
    assert [layer.name for layer in cross_attention_layers(unet)] != [name for name, *_ in order]
    assert [row[1:] for row in widths_and_weights(unet)] == [row[1:] for row in order]
    assert fingerprint(pipeline) == before


def widths_and_weights(unet: Any) -> list[tuple[str, int, int]]:
    return [(layer.name, layer.width, id(layer.W_K)) for layer in cross_attention_layers(unet)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_changed_weight_of_encoders_keys_and_values_changes_it(family: str) -> None:
    pipeline = tiny_pipeline(family)
    layers = cross_attention_layers(pipeline.unet)

    def now() -> str:
        return fingerprints_of_base_model(encoders(pipeline), layers).base_model

    seen = {now()}
    tensors = [tensor for part in encoders(pipeline) for tensor in part.parameters()]
    tensors += [W for layer in layers for W in (layer.W_K, layer.W_V)]
    for tensor in tensors:
        with torch.no_grad():
            tensor.view(-1)[-1] += 0.25
        seen.add(now())
    assert len(seen) == len(tensors) + 1


def test_layers_that_change_places_and_keys_that_become_values_change_it() -> None:
    pipeline = tiny_pipeline("sd1")
    text, layers = encoders(pipeline), cross_attention_layers(pipeline.unet)
    alike = [layer for layer in layers if layer.W_K.shape == layers[0].W_K.shape]
    assert len(alike) >= 2
    swapped = [alike[1], alike[0], *alike[2:]]
    crossed = [replace(layer, W_K=layer.W_V, W_V=layer.W_K) for layer in alike]
    orders = (alike, swapped, crossed)
    found = {fingerprints_of_base_model(text, order).base_model for order in orders}
    assert len(found) == 3


def test_the_order_of_two_text_encoders_counts() -> None:
    pipeline = tiny_pipeline("sdxl")
    one, two = encoders(pipeline)
    pairs = fingerprints_of_base_model([one, two], []), fingerprints_of_base_model([two, one], [])
    assert len({found.base_model for found in pairs}) == 2
    assert len({found.text_encoders for found in pairs}) == 2


def test_half_precision_and_weights_that_no_concept_reads_leave_it_as_it_is() -> None:
    one, same = tiny_pipeline("sd1"), tiny_pipeline("sd1")
    same.unet.to(torch.float16)
    same.text_encoder.to(torch.float16)
    with torch.no_grad():
        same.unet.conv_in.weight.mul_(2)
    assert fingerprint(same) == fingerprint(one)


def test_an_evaluator_whose_parameters_are_renamed_is_the_same_and_a_changed_one_is_not() -> None:
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(SHIPPED.with_name("evaluator"))
    before = fingerprint_of_module(model)
    renamed(model, "of_another_release_{}".format)
    assert fingerprint_of_module(model) == before
    with torch.no_grad():
        next(iter(model.parameters())).view(-1)[0] += 0.25
    assert fingerprint_of_module(model) != before


@pytest.mark.parametrize("family", [*FAMILIES, "shipped"])
def test_layers_come_in_the_order_in_which_the_unet_runs_them(family: str) -> None:
    """diffusers registers the middle last, and a concept's o* is laid out by this order."""
    shipped = family == "shipped"
    unet: Any = (
        UNet2DConditionModel.from_pretrained(SHIPPED / "unet", torch_dtype=torch.float32)
        if shipped
        else tiny_pipeline(family).unet
    )
    ran: list[str] = []
    for name, module in unet.named_modules():
        if name.endswith(".attn2"):
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    added = {"text_embeds": torch.zeros(1, 24), "time_ids": torch.zeros(1, 6)}
    with torch.no_grad():
        unet(
            torch.zeros(1, unet.config.in_channels, 8, 8), 1,
            torch.zeros(1, 3, unet.config.cross_attention_dim), added_cond_kwargs=added,
        )  # fmt: skip
    assert len(ran) >= 4 and any(name.startswith("mid_block") for name in ran)
    assert [layer.name for layer in cross_attention_layers(unet)] == ran


def test_cross_attention_outside_the_known_passage_is_refused() -> None:
    unet = tiny_pipeline("sd1").unet
    unet.sideways = unet._modules.pop("mid_block")
    with pytest.raises(BaseModelError, match="no part of a U-Net that is known to run in order"):
        cross_attention_layers(unet)
