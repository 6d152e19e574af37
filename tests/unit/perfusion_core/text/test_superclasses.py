"""Which superclasses are warned of: those that a base model was not trained on, or cuts up."""

import json
from pathlib import Path

import pytest

from perfusion_core.config import read_defaults
from perfusion_core.text.clip_tokenizer import clip_tokenizer
from perfusion_core.text.superclasses import nearest, superclass_sentence

SHIPPED = Path(__file__).parents[4] / "models" / "base"


def test_the_shipped_model_says_which_superclasses_it_was_trained_on() -> None:
    known = read_defaults(SHIPPED).known_superclasses
    assert known == json.loads((SHIPPED / "data.json").read_text())["subjects"]
    for superclass in ("teddy", "Bear", "polar bear", "toy robot"):
        assert superclass_sentence(superclass, known=known) is None
    told = superclass_sentence("badger", known=known)
    assert told is not None
    assert told.startswith("This base model was not trained to draw 'badger'.")
    assert "Nearest in spelling: burger, bear" in told
    assert told.endswith("train, backpack, bell, ball.")
    assert superclass_sentence("bear hug", known=known) is not None


def test_a_long_list_is_not_told_in_full() -> None:
    told = superclass_sentence("zzz", known=[f"w{number}" for number in range(150)])
    assert told is not None and told.endswith("w98, w99 and 50 more.")
    assert "spelling" not in told


def test_a_word_of_another_models_list_is_known_in_any_case() -> None:
    assert superclass_sentence("corgi", known=["Corgi", "hot dog"]) is None
    assert superclass_sentence("Hot Dog", known=["Corgi", "hot dog"]) is None
    assert nearest("corgy", ["Cat", "corgi"]) == ["corgi"]


@pytest.mark.parametrize("superclass", ["badger", "teddy bear", "axolotl toy", "animal", "toy"])
def test_a_last_word_that_is_one_piece_of_clips_vocabulary_is_not_warned_of(
    superclass: str,
) -> None:
    assert superclass_sentence(superclass, known=[], tokenizer=clip_tokenizer()) is None


def test_a_last_word_of_several_pieces_is_warned_of_with_their_number() -> None:
    told = superclass_sentence("pink axolotl", known=[], tokenizer=clip_tokenizer())
    assert told is not None
    assert told.startswith("'axolotl' is made of 4 pieces in this base model's vocabulary")


def test_a_word_that_cannot_be_encoded_is_named_before_its_training_fails() -> None:
    class Nothing:
        eos_token_id = bos_token_id = 0

        def __call__(self, *_: object, **__: object) -> "Nothing":
            return self

        input_ids = (0,)

    told = superclass_sentence("x", known=[], tokenizer=Nothing())
    assert told is not None and "has no word for the superclass 'x'" in told
    assert superclass_sentence("x", known=[]) is None
