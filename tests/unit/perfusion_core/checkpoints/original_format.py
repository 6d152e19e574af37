"""Writes a pipeline's weights under the names of Stable Diffusion's original releases.

Diffusers converts from these names only. This is the way back, so that a single file can be made
from a tiny pipeline; a file that diffusers' own `from_single_file` reads is a right one.
"""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

Names = Iterable[tuple[str, str]]

RESNET: Names = (
    (r"\.norm1\.", ".in_layers.0."), (r"\.conv1\.", ".in_layers.2."),
    (r"\.time_emb_proj\.", ".emb_layers.1."), (r"\.norm2\.", ".out_layers.0."),
    (r"\.conv2\.", ".out_layers.3."), (r"\.conv_shortcut\.", ".skip_connection."),
)  # fmt: skip
UNET: Names = (
    (r"^time_embedding\.linear_1", "time_embed.0"), (r"^time_embedding\.linear_2", "time_embed.2"),
    (r"^add_embedding\.linear_1", "label_emb.0.0"), (r"^add_embedding\.linear_2", "label_emb.0.2"),
    (r"^conv_in", "input_blocks.0.0"), (r"^conv_norm_out", "out.0"), (r"^conv_out", "out.2"),
    (r"^mid_block\.resnets\.0", "middle_block.0"), (r"^mid_block\.resnets\.1", "middle_block.2"),
    (r"^mid_block\.attentions\.0", "middle_block.1"),
)  # fmt: skip
VAE: Names = (
    (r"coder\.down_blocks\.(\d+)\.resnets", r"coder.down.\1.block"),
    (r"coder\.down_blocks\.(\d+)\.downsamplers\.0", r"coder.down.\1.downsample"),
    (r"mid_block\.resnets\.0", "mid.block_1"), (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0", "mid.attn_1"), (r"conv_norm_out", "norm_out"),
    (r"conv_shortcut", "nin_shortcut"), (r"group_norm", "norm"), (r"to_([qkv])", r"\1"),
    (r"to_out\.0", "proj_out"),
)  # fmt: skip
OPEN_CLIP: Names = (
    (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^embeddings\.", ""), (r"^final_layer_norm", "ln_final"),
    (r"^encoder\.layers\.", "transformer.resblocks."), (r"layer_norm", "ln_"),
    (r"\.fc1\.", ".c_fc."), (r"\.fc2\.", ".c_proj."), (r"self_attn", "attn"),
)  # fmt: skip


def original_state(pipeline: Any) -> dict[str, Tensor]:
    """The pipeline's weights as its family's first release names them."""
    state = {f"model.diffusion_model.{k}": v for k, v in _unet(pipeline.unet).items()}
    state |= {f"first_stage_model.{k}": v for k, v in _vae(pipeline.vae).items()}
    if getattr(pipeline, "text_encoder_2", None) is not None:
        state |= _clip(pipeline.text_encoder, "conditioner.embedders.0.transformer.text_model.")
        state |= _open_clip(pipeline.text_encoder_2, "conditioner.embedders.1.model.")
    elif pipeline.text_encoder.config.hidden_act == "gelu":  # OpenCLIP's, in Stable Diffusion 2
        state |= _open_clip(pipeline.text_encoder, "cond_stage_model.model.")
    else:
        state |= _clip(pipeline.text_encoder, "cond_stage_model.transformer.text_model.")
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _renamed(name: str, names: Names) -> str:
    for pattern, new in names:
        name = re.sub(pattern, new, name)
    return name


def _unet(unet: Any) -> dict[str, Tensor]:
    each = unet.config.layers_per_block + 1

    def place(found: re.Match[str]) -> str:
        way, block, kind, layer = found[1], int(found[2]), found[3], int(found[4])
        number = block * each + (layer if kind in ("resnets", "attentions") else each - 1)
        if way == "down":
            at = {"resnets": "0", "attentions": "1", "downsamplers": "0.op"}[kind]
            return f"input_blocks.{1 + number}.{at}"
        after = 2 if "CrossAttn" in unet.config.up_block_types[block] else 1
        at = {"resnets": "0", "attentions": "1", "upsamplers": f"{after}.conv"}[kind]
        return f"output_blocks.{number}.{at}"

    state = {}
    for name, tensor in unet.state_dict().items():
        new = _renamed(name, UNET)
        new = re.sub(r"^(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)(?:\.conv(?=\.))?", place, new)
        state[_renamed(new, RESNET) if "resnets" in name else new] = tensor
    return state


def _vae(vae: Any) -> dict[str, Tensor]:
    last = len(vae.config.block_out_channels) - 1
    state = {}
    for name, tensor in vae.state_dict().items():
        new = re.sub(
            r"up_blocks\.(\d+)\.(resnets|upsamplers\.0)",
            lambda m: f"up.{last - int(m[1])}.{'block' if m[2] == 'resnets' else 'upsample'}",
            name,
        )
        is_linear = "mid_block.attentions" in name and tensor.ndim == 2
        state[_renamed(new, VAE)] = tensor[..., None, None] if is_linear else tensor
    return state


def _clip(encoder: Any, prefix: str) -> dict[str, Tensor]:
    return {
        prefix + name.removeprefix("text_model."): tensor
        for name, tensor in encoder.state_dict().items()
    }


def _open_clip(encoder: Any, prefix: str) -> dict[str, Tensor]:
    plain = {k.removeprefix("text_model."): v for k, v in encoder.state_dict().items()}
    width = encoder.config.hidden_size
    projection = plain.pop("text_projection.weight", torch.eye(width))
    state = {prefix + "text_projection": projection.T}
    for name, tensor in plain.items():
        if "self_attn" not in name or "out_proj" in name:
            state[prefix + _renamed(name, OPEN_CLIP)] = tensor
        elif "q_proj" in name:
            whole = torch.cat([plain[name.replace("q_proj", f"{part}_proj")] for part in "qkv"])
            new = name.replace("q_proj.", "in_proj_")
            state[prefix + _renamed(new, OPEN_CLIP)] = whole
    return state
