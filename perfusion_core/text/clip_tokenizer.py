"""CLIP's tokenizer, for checkpoints that come without one: single files hold weights alone.

Only the merges are stored. The vocabulary follows from the merges.
"""

from functools import cache
from itertools import chain
from typing import Any

import models

_MERGES = models.folder() / "families" / "clip" / "merges.txt"
_START, _END = "<|startoftext|>", "<|endoftext|>"
_POSITIONS = 77


def clip_tokenizer(*, pad_token: str = _END) -> Any:
    """Return a transformers CLIPTokenizer with CLIP's 49,408 tokens and 77 positions.

    Stable Diffusion 1.x and SDXL's first encoder pad with the end token, their default here. Stable
    Diffusion 2.x and SDXL's second encoder pad with "!", whose id is 0.
    """
    from transformers import CLIPTokenizer

    vocabulary, merges = _vocabulary()
    return CLIPTokenizer(
        vocab=dict(vocabulary), merges=list(merges), bos_token=_START, eos_token=_END,
        unk_token=_END, pad_token=pad_token, model_max_length=_POSITIONS,
    )  # fmt: skip


@cache
def _vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return every token's id, and the merges, best first.

    CLIP numbers 256 symbols for bytes, the same symbols at a word's end, one token a merge, and the
    two special tokens, in this order.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    lines = _MERGES.read_text("utf-8").splitlines()[1:]  # the first line names the version
    merges = [(left, right) for left, right in map(str.split, lines)]
    # Printable bytes stand for themselves, and the others for characters from 256 up, so the order
    # of code points is CLIP's order.
    symbols = sorted(ByteLevel.alphabet())
    ends = (symbol + "</w>" for symbol in symbols)
    tokens = chain(symbols, ends, map("".join, merges), (_START, _END))
    return {token: number for number, token in enumerate(tokens)}, merges
