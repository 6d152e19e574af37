"""Encodings of captions, as the estimate of C reads them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from perfusion_core.text.encoders import TextEncoders


@torch.no_grad()
def encode_captions(text: TextEncoders, tokenizers: Sequence[Any], batch: list[str]) -> Tensor:
    """Return the encodings (B, N, d) of captions, cut or padded to the tokenizers' full length."""
    ids = [
        tokenizer(
            batch, padding="max_length", max_length=tokenizer.model_max_length, truncation=True
        ).input_ids
        for tokenizer in tokenizers
    ]
    return text.encode(ids).e


def content_positions(tokenizer: Any, batch: list[str]) -> Tensor:
    """Return which positions (B, N) of captions are neither begin, end nor padding."""
    most = tokenizer.model_max_length
    ids = tokenizer(batch, max_length=most, truncation=True).input_ids
    ends = torch.tensor([len(own) - 1 for own in ids])[:, None]  # (B, 1)
    places = torch.arange(most)
    return (places > 0) & (places < ends)
