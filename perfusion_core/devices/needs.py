"""What a base model needs of memory, reckoned from the shapes of its parts.

Weights are summed. Activations are linear in the pixels, with factors that follow from what each
kind of layer holds or keeps. `python -m benchmarks.needs` compares these figures with a count over
all operations. An allocator's waste and the workspaces of kernels are not part of these figures;
`perfusion_core.devices.plans` leaves room for them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

_FLOAT32 = 4  # bytes
# A transformer block of width c keeps for its backward pass: the inputs of 3 norms, Queries, Keys,
# Values and result of self-attention, Queries and result of cross-attention, and 12 c of the
# gated feed-forward layer. Its feed-forward layer holds as much at once without a backward pass.
_KEPT_BY_TRANSFORMER = 21
# Of each of a residual block's two convolutions: the input before its norm, after its norm and
# after its activation. torch keeps a convolution's input even if its weight is frozen.
_KEPT_BY_RESNET = 3
# Norms, attention and the feed-forward layer of a text encoder's layer.
_KEPT_BY_TEXT_LAYER = 22


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The bytes that a base model needs; `pixels` are those of an image or picture."""

    unet: int
    """The U-Net's weights."""
    text: int
    """The text encoders' weights."""
    vae: int
    """The VAE's weights."""
    text_graph: int
    """What the text encoders keep for the backward pass of one prompt."""
    step_per_pixel: float
    training_per_pixel: float
    recomputing_per_pixel: float
    decoding_per_pixel: float
    encoding_per_pixel: float
    step_per_squared_pixel: float
    training_per_squared_pixel: float

    def step(self, pixels: int, *, rows: int = 2) -> int:
        """What a denoising step holds beyond weights, by default for one image with guidance."""
        return int(rows * pixels * (self.step_per_pixel + pixels * self.step_per_squared_pixel))

    def training(self, pixels: int) -> int:
        """What a training step holds for one picture of a pass, beyond weights and text."""
        return int(
            pixels * (self.training_per_pixel + pixels * self.training_per_squared_pixel)
        )  # fmt: skip

    def recomputing(self, pixels: int) -> int:
        """What a training step holds for one picture if it computes activations twice."""
        return int(pixels * (self.recomputing_per_pixel + pixels * self.step_per_squared_pixel))

    def decoding(self, pixels: int) -> int:
        """What the VAE holds while it decodes one image, or one tile of an image."""
        return int(pixels * self.decoding_per_pixel)

    def encoding(self, pixels: int) -> int:
        """What the VAE holds while it encodes one picture."""
        return int(pixels * self.encoding_per_pixel)


def needs_of(
    unet: Any,
    vae: Any,
    encoders: Iterable[Any],
    *,
    dtype: torch.dtype,
    vae_dtype: torch.dtype = torch.float32,
    fused: bool = True,
    sliced: bool = False,
) -> Needs:
    """Reckon the needs of these modules, whose weights may lie on the meta device.

    `dtype` is that of the U-Net. `fused` says that attention runs in kernels that hold no scores,
    and `sliced` that it holds the scores of one head of one row at a time.
    """
    encoders = list(encoders)
    factor = 4 ** (len(vae.config.block_out_channels) - 1)  # pixels per latent
    size, vae_size = dtype.itemsize, vae_dtype.itemsize
    widths = list(vae.config.block_out_channels)
    kept = inputs = most = 0.0
    squared = kept_squared = 0.0
    for scale, module in _blocks(unet):
        match type(module).__name__:
            case "ResnetBlock2D":
                c_in, c_out = module.in_channels, module.out_channels
                kept += _KEPT_BY_RESNET * (c_in + c_out) * scale
                inputs += c_in * scale
            case "Transformer2DModel":
                inner = module.config.num_attention_heads * module.config.attention_head_dim
                own = inner * scale * (1 if module.config.use_linear_projection else 3)
                kept, inputs = kept + own, inputs + own
            case "BasicTransformerBlock":
                kept += _KEPT_BY_TRANSFORMER * module.dim * scale
                inputs += module.dim * scale
                most = max(most, module.dim * scale)
                scores = 2 * module.num_attention_heads * scale**2
                kept_squared += scores
                squared = max(squared, 2 * scale**2 if sliced else scores)
    step = (_skips(unet) + _KEPT_BY_TRANSFORMER * most) * size / factor
    once = (inputs + 2 * _KEPT_BY_TRANSFORMER * most) * size / factor
    quadratic = 0.0 if fused else size / factor**2
    return Needs(
        unet=_numbers([unet]) * size,
        text=_numbers(encoders) * _FLOAT32,
        vae=_numbers([vae]) * vae_size,
        text_graph=sum(_text_graph(encoder) for encoder in encoders),
        step_per_pixel=step,
        training_per_pixel=kept * size / factor,
        recomputing_per_pixel=once,
        # The last stage of the decoder works at the image's size. It begins with the channels of
        # the stage before; its norm and its activation hold three copies of them.
        decoding_per_pixel=3 * widths[min(1, len(widths) - 1)] * vae_size,
        encoding_per_pixel=(5 * widths[0] + 3) * vae_size,
        step_per_squared_pixel=squared * quadratic,
        training_per_squared_pixel=kept_squared * quadratic,
    )


def _blocks(unet: Any) -> Iterator[tuple[float, Any]]:
    """Yield each block's modules with the area of its feature maps, in latents."""
    last = len(unet.down_blocks) - 1
    stages = [(4.0**-level, block) for level, block in enumerate(unet.down_blocks)]
    stages.append((4.0**-last, unet.mid_block))
    stages += [(4.0 ** (level - last), block) for level, block in enumerate(unet.up_blocks)]
    for scale, block in stages:
        for module in block.modules():
            yield scale, module


def _skips(unet: Any) -> float:
    """Return the channels that wait for the way up, each times its area in latents."""
    held = float(unet.config.block_out_channels[0])
    for level, block in enumerate(unet.down_blocks):
        held += sum(resnet.out_channels for resnet in block.resnets) * 4.0**-level
        if block.downsamplers is not None:
            held += block.resnets[-1].out_channels * 4.0 ** -(level + 1)
    return held


def _text_graph(encoder: Any) -> int:
    config = encoder.config
    values = config.num_hidden_layers * config.hidden_size * _KEPT_BY_TEXT_LAYER
    return int(config.max_position_embeddings * values * _FLOAT32)


def _numbers(modules: Iterable[Any]) -> int:
    return sum(weight.numel() for module in modules for weight in module.parameters())
