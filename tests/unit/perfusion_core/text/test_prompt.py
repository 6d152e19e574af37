"""Placeholders in prompts."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfusion_core.errors import PromptError
from perfusion_core.strength import (
    DEFAULT_BETA,
    beta_from_strength,
    default_beta,
    strength_from_beta,
)
from perfusion_core.text.prompt import Placeholder, Prompt, parse


def written_out(prompt: Prompt, words: Mapping[str, str]) -> str:
    """The prompt with each placeholder replaced by its concept's word."""
    return "".join(
        words[part.name] if isinstance(part, Placeholder) else part for part in prompt.segments
    )


def test_a_placeholder_is_found_with_and_without_a_strength() -> None:
    prompt = parse("a photo of <teddy>, next to <rex-2:0.6>!")
    assert [(p.name, p.strength) for p in prompt.placeholders] == [("teddy", None), ("rex-2", 0.6)]
    assert prompt.strengths == {"rex-2": 0.6}


def test_superclasses_written_out_leave_the_rest_of_the_prompt_alone() -> None:
    prompt = parse("<a>, <b:0.5> and <a>")
    assert written_out(prompt, {"a": "teddy bear", "b": "dog"}) == "teddy bear, dog and teddy bear"
    assert prompt.names == ("a", "b")


@pytest.mark.parametrize("text", ["a < b > c", "<Teddy>", "<>", "<a b>", "<-x>", "<<<", "a<b"])
def test_other_angle_brackets_are_ordinary_text(text: str) -> None:
    assert parse(text).placeholders == ()
    assert "".join(str(part) for part in parse(text).segments) == text


@pytest.mark.parametrize("strength", ["0", "1", "-1", "1.2", "nan", "inf", "x", "", "0.5.5"])
def test_a_strength_outside_zero_to_one_is_refused_by_name(strength: str) -> None:
    with pytest.raises(PromptError, match=r"<teddy>.*between 0 and 1"):
        parse(f"a <teddy:{strength}>")


def test_two_strengths_for_one_concept_are_refused() -> None:
    with pytest.raises(PromptError, match="two strengths"):
        parse("<teddy:0.3> and <teddy:0.8>")
    assert parse("<teddy:0.3> and <teddy>").strengths == {"teddy": 0.3}


@given(st.text())
def test_any_text_is_parsed_or_refused_and_nothing_of_it_is_lost(text: str) -> None:
    prompt = parse(text)
    rebuilt = "".join(
        part if isinstance(part, str) else text[part.start : part.end] for part in prompt.segments
    )
    assert rebuilt == text


def test_strength_is_the_gate_at_the_concepts_own_encoding() -> None:
    assert beta_from_strength(0.5) == pytest.approx(1.0)
    assert beta_from_strength(0.88) == pytest.approx(0.70, abs=0.002)
    assert strength_from_beta(beta_from_strength(0.31, 0.2), 0.2) == pytest.approx(0.31)


@pytest.mark.parametrize("strength", [0.0, 1.0, -0.1, float("nan")])
def test_no_bias_gives_a_strength_of_zero_or_one(strength: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        beta_from_strength(strength)


def test_without_a_number_local_locking_takes_what_is_recommended_and_global_never() -> None:
    assert default_beta("local", recommended_strength=0.982) == beta_from_strength(0.982)
    assert default_beta("local", recommended_strength=None) == DEFAULT_BETA["local"] == 0.7
    for recommended in (None, 0.982):
        assert default_beta("global", recommended_strength=recommended) == 0.5
