"""The built-in captions: the same everywhere, and rich where the vocabulary is."""

from itertools import islice

from perfusion_core.covariance.captions import LARGE_VOCABULARY, captions
from perfusion_core.covariance.estimate import CAPTION_COUNT
from perfusion_core.text.clip_tokenizer import clip_tokenizer
from perfusion_core.text.tokenization import whole_words
from tests.unit.perfusion_core.conftest import TOKENIZER


def test_built_in_captions_are_always_the_same_and_of_known_nouns_only() -> None:
    known = {"a", "the", "cat", "photo", "red", "of", "on", "beach"}.__contains__
    first = list(captions(50, known=known))
    assert first == list(captions(50, known=known)) and len(set(first)) > 10
    assert all("cat" in caption or "beach" in caption for caption in first)
    assert not any("dog" in caption or "painting" in caption for caption in first)
    assert list(captions(50, known=lambda word: False)) == []


def test_captions_on_clips_vocabulary_say_each_of_its_whole_words() -> None:
    tokenizer = clip_tokenizer()
    words = whole_words(tokenizer)
    known = set(words).__contains__
    said: set[str] = set()
    tokens: set[int] = set()
    lengths = []
    for caption in captions(CAPTION_COUNT, known=known, words=words):
        said.update(caption.replace(",", " ").split())
        ids = tokenizer(caption, add_special_tokens=False).input_ids
        tokens.update(ids)
        lengths.append(len(ids))
    assert len(words) > 30_000 and set(words) <= said
    assert len(tokens) > 30_000  # the grammar alone has 769
    assert max(lengths) <= 75 and sum(length > 20 for length in lengths) > 3000


def test_half_of_the_captions_are_still_those_of_the_grammar() -> None:
    known = {"a", "the", "cat", "dog", "photo", "red", "of", "on", "beach"}.__contains__
    words = [f"word{n}" for n in range(LARGE_VOCABULARY)]
    mixed = list(captions(40, known=known, words=words))
    assert mixed == list(captions(40, known=known, words=list(reversed(words))))
    assert not any("word" in caption for caption in mixed[::2])
    assert all("word" in caption for caption in mixed[1::2])
    grammar = set(captions(100, known=known))
    assert set(mixed[::2]) <= grammar


def test_the_shipped_models_small_vocabulary_gets_the_grammar_alone() -> None:
    words = whole_words(TOKENIZER)
    known = set(words).__contains__
    assert list(captions(60, known=known, words=words)) == list(captions(60, known=known))


def test_a_whole_word_is_one_token_of_letters() -> None:
    tokenizer = clip_tokenizer()
    for word in islice(whole_words(tokenizer), 0, None, 500):
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1
        assert word.isalpha() and word == word.lower()
