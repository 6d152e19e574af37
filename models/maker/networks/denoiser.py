"""The denoiser and its text encoder, either fresh or with the weights of an earlier model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from models.maker.networks.tokenizer import BOS, EOS, MAX_TOKENS, make_tokenizer
from models.maker.recipe import UnetRecipe

TOKEN_STD = 0.2  # with CLIP's own 0.02 the positions outweighed the words


@dataclass(frozen=True)
class Denoiser:
    """The U-Net and the text encoder, which are trained together."""

    unet: UNet2DConditionModel
    text: CLIPTextModel

    def parameters(self) -> list[nn.Parameter]:
        """Return all weights, in a fixed order."""
        return [*self.unet.parameters(), *self.text.parameters()]

    def predict(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        ids: Tensor,
        *,
        padding_forgotten: Tensor | None = None,
    ) -> Tensor:
        """Predict v from the noisy latents and the caption, (b, 8, 16, 16).

        Where `padding_forgotten` (b, 1) is true, the tokens after the first end token get their
        encodings in the empty prompt. The meaning of a word then comes from its own token, as in
        a frozen CLIP.
        """
        told = self.text(ids).last_hidden_state  # (b, 32, width)
        if padding_forgotten is not None:
            empty = self.empty_ids()
            padding = (ids == empty[:, -1:]).int().cumsum(1) > 1  # (b, 32)
            blank = self.text(empty).last_hidden_state  # (1, 32, width)
            told = torch.where((padding & padding_forgotten)[..., None], blank, told)
        prediction: Tensor = self.unet(noisy, timesteps, told).sample
        return prediction

    def empty_ids(self) -> Tensor:
        """Return the token ids of the empty prompt, (1, 32)."""
        config = self.text.config
        ids = torch.full((1, MAX_TOKENS), config.eos_token_id, device=self.text.device)
        ids[:, 0] = config.bos_token_id
        return ids


class TwoProductAttention:
    """Attention as two products, because a CPU's fused backward kernel is slow in bfloat16."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **_: object,
    ) -> Tensor:
        """Attend from (b, places, width) to itself, or to (b, tokens, text width)."""
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for projected in (attn.to_q(hidden_states), attn.to_k(source), attn.to_v(source))
        )  # (b, heads, places or tokens, width of a head)
        share = torch.softmax(attn.scale * query @ key.transpose(-1, -2), dim=-1)
        project, dropout = attn.to_out
        attended: Tensor = dropout(project((share @ value).transpose(1, 2).flatten(2)))
        return attended


def make_schedule() -> DDIMScheduler:
    """Return a schedule with Stable Diffusion's betas and v-prediction."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )


def build_denoiser(recipe: UnetRecipe, warm_start: Path | None) -> Denoiser:
    """Build a U-Net with cross-attention at all three resolutions, and its text encoder.

    Concepts need the cross-attention at the two finer resolutions.
    """
    levels = len(recipe.channels)
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=recipe.latent_channels,
        out_channels=recipe.latent_channels,
        layers_per_block=recipe.layers,
        block_out_channels=recipe.channels,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        cross_attention_dim=recipe.text_width,
        attention_head_dim=(max(1, recipe.heads // 2), recipe.heads, recipe.heads),
        norm_num_groups=16,
    )
    tokenizer = make_tokenizer()
    end = int(tokenizer.convert_tokens_to_ids(EOS))
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.text_width,
        projection_dim=recipe.text_width,
        intermediate_size=3 * recipe.text_width,
        num_hidden_layers=recipe.text_layers,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=int(tokenizer.convert_tokens_to_ids(BOS)),
        eos_token_id=end,
        pad_token_id=end,
    )
    text = CLIPTextModel(config)
    nn.init.normal_(text.get_input_embeddings().weight, std=TOKEN_STD)
    if warm_start is not None:
        _copy_weights(warm_start, unet, text, tokenizer)
    return Denoiser(unet, text)


@torch.no_grad()
def _copy_weights(
    folder: Path, unet: UNet2DConditionModel, text: CLIPTextModel, tokenizer: CLIPTokenizer
) -> None:
    """Copy every weight of the same name and shape, and the embedding of each word."""
    earlier = UNet2DConditionModel.from_pretrained(folder / "unet").float().state_dict()
    own = unet.state_dict()
    taken = {key: value for key, value in earlier.items() if key in own}
    unet.load_state_dict(taken, strict=False)
    # Attention that the earlier model lacks starts as the identity.
    for name, module in unet.named_modules():
        if name.endswith("proj_out") and f"{name}.weight" not in taken:
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    earlier_text = CLIPTextModel.from_pretrained(folder / "text_encoder").float()
    state = earlier_text.state_dict()
    key = next(name for name in state if name.endswith("token_embedding.weight"))
    rows = state.pop(key)
    text.load_state_dict(state, strict=False)
    earlier_ids = CLIPTokenizer.from_pretrained(folder / "tokenizer").get_vocab()
    table = text.get_input_embeddings().weight
    for token, index in tokenizer.get_vocab().items():
        if token in earlier_ids:
            table[index] = rows[earlier_ids[token]]
