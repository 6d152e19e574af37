"""CLIP's tokenizer, derived from its merges, gives the ids that CLIP's encoders were trained on."""

import itertools

import pytest
import regex
from tokenizers.pre_tokenizers import ByteLevel

import models
from perfusion_core.text.clip_tokenizer import clip_tokenizer

START, END = 49406, 49407
TEXTS = (
    "a photo of a cat",
    "A Photo of  a\n CAT, isn't it? it's 2026!",
    "ein Plüschtier – naïve café № 5",
    "antidisestablishmentarianism supercalifragilisticexpialidocious",
    "日本 кошка 🐈",
    "a plushie of a corgi wearing sunglasses, watercolor (4k:1.2)",
)


def reference(text: str) -> list[int]:
    """CLIP's rules as its paper's code has them: split, bytes, then the best merge first."""
    lines = (models.folder() / "families/clip/merges.txt").read_text("utf-8").splitlines()[1:]
    rank = {tuple(line.split()): number for number, line in enumerate(lines)}
    symbols = sorted(ByteLevel.alphabet())
    tokens = [*symbols, *(s + "</w>" for s in symbols), *("".join(pair) for pair in rank)]
    ids = {token: number for number, token in enumerate(tokens)}
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    spelled = dict(zip([*printable, *others], symbols, strict=True))
    pieces = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    found: list[int] = []
    for word in regex.findall(pieces, " ".join(text.split()).lower(), regex.IGNORECASE):
        parts = [spelled[byte] for byte in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            best = min(itertools.pairwise(parts), key=lambda pair: rank.get(pair, 1e9))
            if best not in rank:
                break
            joined: list[str] = []
            while parts:
                both = tuple(parts[:2]) == best
                joined.append("".join(parts[:2]) if both else parts[0])
                parts = parts[2 if both else 1 :]
            parts = joined
        found += [ids[part] for part in parts]
    return found


def test_a_photo_of_a_cat_has_the_ids_that_the_field_knows() -> None:
    tokenizer = clip_tokenizer()
    assert len(tokenizer) == 49408
    assert tokenizer("a photo of a cat").input_ids == [START, 320, 1125, 539, 320, 2368, END]
    assert tokenizer.convert_tokens_to_ids(["!", "<|startoftext|>", "<|endoftext|>"]) == [
        0, START, END,
    ]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_split_by_clips_rules(text: str) -> None:
    assert clip_tokenizer()(text, add_special_tokens=False).input_ids == reference(text)


@pytest.mark.parametrize(("pad", "number"), [("<|endoftext|>", END), ("!", 0)])
def test_a_prompt_is_padded_to_77_positions_as_its_family_pads(pad: str, number: int) -> None:
    tokenizer = clip_tokenizer(pad_token=pad)
    ids = tokenizer("a cat", padding="max_length").input_ids
    assert ids == [START, 320, 2368, END] + [number] * 73
    assert len(tokenizer) == 49408
    assert len(tokenizer("cat " * 90, truncation=True).input_ids) == 77
