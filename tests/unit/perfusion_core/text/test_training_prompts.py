"""Training prompts: where a concept stands in them, and where its superclass once written out."""

import pytest
import torch

from perfusion_core.errors import PromptTooLong
from perfusion_core.text.templates import TEMPLATES
from perfusion_core.text.tokenization import superclass_ids
from perfusion_core.text.training_prompts import TrainingPrompts
from tests.unit.perfusion_core.text.test_tokenization import TOKENIZER, plain


def prompts(superclass: str = "stuffed teddy") -> TrainingPrompts:
    return TrainingPrompts.of([TOKENIZER], TEMPLATES, superclass=superclass)


def test_the_concept_takes_one_position_of_each_prompt_and_its_superclass_all_of_its_own() -> None:
    found, tokens = prompts(), superclass_ids(TOKENIZER, "stuffed teddy")
    last = tokens[-1]
    assert len(tokens) > 2
    assert found.ids == [[plain(template.format("teddy")) for template in TEMPLATES]]
    assert found.written == [[plain(template.format("stuffed teddy")) for template in TEMPLATES]]
    for ids, place, written, written_place in zip(
        found.ids[0], found.places, found.written[0], found.written_places, strict=True
    ):
        assert ids[place] == written[written_place] == last
        assert ids.count(last) == 1
        assert written_place == place + len(tokens) - 1


def test_chosen_rows_keep_what_belongs_to_each() -> None:
    found, chosen = prompts(), [7, 0, 7]
    rows = found.rows(chosen)
    assert rows.ids == [[found.ids[0][k] for k in chosen]]
    assert rows.written == [[found.written[0][k] for k in chosen]]
    assert rows.places == [found.places[k] for k in chosen]
    assert rows.written_places == [found.written_places[k] for k in chosen]


def test_encodings_are_picked_where_the_concept_and_its_superclass_stand() -> None:
    found = prompts()
    e = torch.randn(len(TEMPLATES), TOKENIZER.model_max_length, 4)
    for row in range(len(TEMPLATES)):
        assert torch.equal(found.at_concept(e)[row], e[row, found.places[row]])
        assert torch.equal(found.at_superclass(e)[row], e[row, found.written_places[row]])


def test_a_template_that_is_too_long_is_refused_by_the_superclass() -> None:
    with pytest.raises(PromptTooLong, match="<teddy> comes after"):
        TrainingPrompts.of([TOKENIZER], ["a " * 40 + "{}"], superclass="teddy")
