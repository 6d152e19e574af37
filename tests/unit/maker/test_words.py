import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from models.maker.networks.tokenizer import Encoder, make_tokenizer
from models.maker.scenes.catalogue import COLOURS, PLACES, SUBJECTS

BASE = Path(__file__).parents[3] / "models" / "base"
ASK = """
from models.maker.networks.tokenizer import make_tokenizer
print(sorted(make_tokenizer().get_vocab().items()))
"""


@pytest.mark.parametrize("word", [*SUBJECTS, *COLOURS])
def test_every_super_category_and_colour_is_one_token(word: str) -> None:
    assert len(make_tokenizer().tokenize(word)) == 1


def test_there_are_sixty_to_a_hundred_super_categories() -> None:
    assert 60 <= len(SUBJECTS) <= 100


def test_looking_words_up_equals_the_tokenizer() -> None:
    tokenizer = make_tokenizer()
    captions = ["a photo of a teddy next to an owl", "a cat, an owl and a tree", ""]
    captions += [f"a red cat {phrase}" for phrases in PLACES.values() for phrase in phrases]
    ids = tokenizer(captions, padding="max_length", max_length=32).input_ids
    assert Encoder(tokenizer).encode(captions).tolist() == ids


def test_the_shipped_model_knows_the_words_by_the_same_ids() -> None:
    shipped = CLIPTokenizer.from_pretrained(BASE / "tokenizer")
    assert make_tokenizer().get_vocab() == shipped.get_vocab()


def test_a_token_has_the_same_id_in_every_process() -> None:
    vocabularies = {
        subprocess.run(
            [sys.executable, "-c", ASK],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(vocabularies) == 1
