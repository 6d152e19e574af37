"""The words of a prompt and their tokens."""

import pytest

from perfusion_core.text.prompt import parse
from perfusion_core.text.tokenization import tokenise
from perfusion_core.text.words import Word, words_of
from tests.unit.perfusion_core.text.test_tokenization import SUPERCLASSES, TOKENIZER


def words(text: str) -> tuple[Word, ...]:
    return words_of(TOKENIZER, parse(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a photo of <rex>", ["a", "photo", "of", "<rex>"]),
        ("a red, very-red car; (<ted:0.5>)!", ["a", "red", "very-red", "car", "<ted>"]),
        ("<rex>'s mother", ["<rex>", "s", "mother"]),
        ("don’t, 3.5 Ünïcode 🦖 ...", ["don’t", "3.5", "Ünïcode"]),
        ("", []),
        ("!?", []),
    ],
)
def test_words_are_what_stands_between_spaces_and_punctuation(
    text: str, expected: list[str]
) -> None:
    assert [word.text for word in words(text)] == expected


def test_a_placeholder_is_one_token_and_a_word_all_of_its_own() -> None:
    text = "an extraordinarily fluffy <rex>, with <ted>: at midnight"
    ids = tokenise(TOKENIZER, parse(text), superclasses=SUPERCLASSES)
    for word in words(text):
        if word.concept is not None:
            assert word.text == f"<{word.concept}>"
            assert (word.positions[0], word.concept) in ids.places and len(word.positions) == 1
        else:
            own = TOKENIZER(word.text, add_special_tokens=False).input_ids
            assert [ids.ids[n] for n in word.positions] == own
    assert len(words(text)[1].positions) > 1  # a word that the tokenizer has to piece together


def test_words_that_the_text_encoder_does_not_read_are_left_out() -> None:
    found = words("<rex> " + "on the beach " * 20)
    assert found[-1].positions[-1] == TOKENIZER.model_max_length - 2
