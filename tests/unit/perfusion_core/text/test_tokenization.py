"""Placeholders among token ids."""

from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from perfusion_core.errors import PromptTooLong, SuperclassError
from perfusion_core.text.prompt import parse
from perfusion_core.text.tokenization import Tokens, cut_text, superclass_ids, tokenise
from tests.unit.perfusion_core.text.test_prompt import written_out

TOKENIZER = CLIPTokenizer.from_pretrained(
    Path(__file__).parents[4] / "models" / "base" / "tokenizer"
)
SUPERCLASSES = {"rex": "dinosaur", "ted": "stuffed teddy"}
LAST = {"rex": "dinosaur", "ted": "teddy"}


def tokens(text: str) -> Tokens:
    return tokenise(TOKENIZER, parse(text), superclasses=SUPERCLASSES)


def plain(text: str) -> list[int]:
    ids: list[int] = TOKENIZER(
        text, padding="max_length", max_length=TOKENIZER.model_max_length, truncation=True
    ).input_ids
    return ids


@pytest.mark.parametrize(
    "text",
    ["a photo of <rex>", "<rex>, at night!", "(<rex>)", "my<rex>car", "a <rex>-like car",
     "<rex> <ted> <rex>", "a very small red car next to <ted> on the beach", "<ted><rex>"],
)  # fmt: skip
def test_each_placeholder_is_one_token_wherever_it_stands(text: str) -> None:
    found = tokens(text)
    prompt = parse(text)
    assert [name for _, name in found.places] == [p.name for p in prompt.placeholders]
    for position, name in found.places:
        assert found.ids[position] == superclass_ids(TOKENIZER, LAST[name])[-1]
    assert found.ids == plain(written_out(prompt, {n: f" {w} " for n, w in LAST.items()}))


@pytest.mark.parametrize("text", ["", "a photo of a cat, at night", "word " * 100])
def test_a_prompt_without_placeholders_is_tokenised_as_by_the_tokenizer(text: str) -> None:
    assert tokens(text).ids == plain(text)


@pytest.mark.parametrize("text", ["a <rex> on the beach", "<ted> next to <rex>, a photo", "<ted>"])
def test_sources_point_at_the_same_word_with_superclasses_written_out(text: str) -> None:
    found = tokens(text)
    written = plain(written_out(parse(text), SUPERCLASSES))
    assert found.written == written
    assert [written[source] for source in found.sources] == found.ids


def test_a_prompt_that_is_too_long_once_superclasses_are_written_out_still_ends() -> None:
    found = tokens("<ted> " * 20 + "on the beach")
    assert len(found.written) == len(found.sources) == len(found.ids) == TOKENIZER.model_max_length
    assert found.written[-1] == TOKENIZER.eos_token_id
    assert found.sources[-1] == TOKENIZER.model_max_length - 1


def test_text_behind_the_limit_is_cut_off_and_placeholders_before_it_are_kept() -> None:
    found = tokens("<rex> " + "on the beach " * 20)
    assert len(found.ids) == TOKENIZER.model_max_length
    assert found.ids[-1] == TOKENIZER.eos_token_id and found.places == ((1, "rex"),)


def test_a_placeholder_behind_the_limit_is_refused_by_name() -> None:
    with pytest.raises(PromptTooLong, match="<rex> comes after the 30 tokens"):
        tokens("the beach " * 15 + "<rex>")
    assert tokens("beach " * 29 + "<rex>").places == ((30, "rex"),)


@pytest.mark.parametrize("superclass", ["", "   ", "<|endoftext|>"])
def test_a_superclass_without_a_word_is_refused(superclass: str) -> None:
    with pytest.raises(SuperclassError, match="no word for"):
        superclass_ids(TOKENIZER, superclass)


def test_a_prompt_that_is_read_to_its_end_has_no_cut_text() -> None:
    most = TOKENIZER.model_max_length - 2
    assert cut_text(TOKENIZER, parse("cat " * most)) == ""
    assert cut_text(TOKENIZER, parse("<rex> " + "cat " * (most - 1))) == ""
    assert cut_text(TOKENIZER, parse("")) == ""


def test_the_words_that_are_not_read_are_told_as_they_were_written() -> None:
    most = TOKENIZER.model_max_length - 2
    assert cut_text(TOKENIZER, parse("cat " * most + "dog  at Night")) == "dog  at Night"
    assert cut_text(TOKENIZER, parse("<rex> " + "cat " * most + "dog")) == "cat dog"


def test_a_word_of_which_only_the_beginning_is_read_counts_as_cut() -> None:
    most = TOKENIZER.model_max_length - 2
    assert len(TOKENIZER("xylophonist", add_special_tokens=False).input_ids) > 1
    text = "cat " * (most - 1) + "xylophonist dog"
    assert cut_text(TOKENIZER, parse(text)) == "xylophonist dog"


@pytest.mark.parametrize("text", ["cat " * 60, "<rex> " + "a red dog, " * 20 + "at night"])
def test_without_the_cut_text_the_prompt_has_the_same_tokens(text: str) -> None:
    prompt = parse(text)
    cut = cut_text(TOKENIZER, prompt)
    assert cut and text.strip().endswith(cut)
    kept = text.strip().removesuffix(cut)
    assert tokens(text).ids == tokens(kept).ids
