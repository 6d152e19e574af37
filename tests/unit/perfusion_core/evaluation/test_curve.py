"""The operating curve as laws: what balance and recommendation may never do."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfusion_core.evaluation.curve import (
    BETAS,
    STRENGTHS,
    Curve,
    Point,
    Proof,
    Similarity,
    balance,
    image_gain,
    present_from,
    recommended,
    recommended_strength,
    text_kept,
)
from perfusion_core.strength import beta_from_strength

cosines = st.floats(-1, 1)
similarities = st.builds(Similarity, cosines, cosines)
ceilings = st.one_of(st.none(), cosines)


def curve(
    *figures: tuple[float, float, float],
    superclass: tuple[float, float] = (0.3, 0.4),
    ceiling: float | None = 0.8,
) -> Curve:
    return Curve(
        prompts=("a photo of a {} on the beach",),
        superclass=Similarity(*superclass),
        ceiling=ceiling,
        points=tuple(Point(s, Similarity(image, text)) for s, image, text in figures),
    )


def curves() -> st.SearchStrategy[Curve]:
    strengths = st.lists(st.floats(0.05, 0.95), min_size=1, max_size=6, unique=True)
    return st.builds(
        lambda s, similar, plain, ceiling: Curve(
            prompts=("{}",),
            superclass=plain,
            ceiling=ceiling,
            points=tuple(Point(strength, similar[k]) for k, strength in enumerate(sorted(s))),
        ),
        strengths,
        st.lists(similarities, min_size=6, max_size=6),
        similarities,
        ceilings,
    )


def test_a_curve_has_the_seven_biases_of_the_method_by_rising_strength() -> None:
    assert BETAS == (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
    assert STRENGTHS == (0.6608, 0.7914, 0.8808, 0.9350, 0.9656, 0.9820, 0.9907)
    assert list(STRENGTHS) == sorted(STRENGTHS)


@pytest.mark.parametrize(("beta", "strength"), list(zip(BETAS, STRENGTHS, strict=True)))
def test_a_point_holds_four_digits_of_strength_and_its_bias_comes_back(
    beta: float, strength: float
) -> None:
    point = Point(strength, Similarity(0.5, 0.5))
    assert point.strength == round(point.strength, 4)
    assert point.beta == beta_from_strength(point.strength)
    assert point.beta == pytest.approx(beta, abs=0.005)


@given(cosines, cosines)
def test_without_a_floor_the_kept_text_is_the_share_of_the_superclasss(
    text: float, plain: float
) -> None:
    kept = text_kept(text, superclass=plain)
    assert kept == (min(1.0, max(0.0, text / plain)) if plain > 0.02 else 1.0)


@pytest.mark.parametrize(("text", "kept"), [(0.15, 0), (0.225, 0.5), (0.3, 1), (0.1, 0), (0.4, 1)])
def test_from_the_floor_on_text_is_kept(text: float, kept: float) -> None:
    assert text_kept(text, superclass=0.3, floor=0.15) == pytest.approx(kept)


def test_where_the_superclass_is_no_better_than_its_floor_the_text_counts_for_nothing() -> None:
    assert text_kept(0.1, superclass=0.16, floor=0.15) == 1


@given(similarities, similarities, ceilings)
def test_a_balance_lies_between_nothing_and_all_and_near_the_worse_of_both(
    measured: Similarity, superclass: Similarity, ceiling: float | None
) -> None:
    value = balance(measured, superclass=superclass, ceiling=ceiling)
    gain = image_gain(measured.image, superclass=superclass.image, ceiling=ceiling)
    kept = text_kept(measured.text, superclass=superclass.text)
    worse, better = sorted((gain, kept))
    assert 0 <= worse <= value + 1e-9
    assert value <= min(better, 2 * worse) + 1e-9


@given(similarities, similarities, ceilings, st.floats(0, 1))
def test_more_of_either_similarity_never_makes_a_balance_worse(
    measured: Similarity, superclass: Similarity, ceiling: float | None, more: float
) -> None:
    before = balance(measured, superclass=superclass, ceiling=ceiling)
    for better in (
        Similarity(measured.image + more, measured.text),
        Similarity(measured.image, measured.text + more),
    ):
        assert balance(better, superclass=superclass, ceiling=ceiling) >= before - 1e-12


def test_the_plain_superclass_and_a_copy_that_ignores_its_prompt_are_both_worth_nothing() -> None:
    plain = Similarity(0.3, 0.4)
    assert balance(plain, superclass=plain, ceiling=0.8) == 0
    assert balance(Similarity(0.8, 0.0), superclass=plain, ceiling=0.8) == 0
    assert balance(Similarity(0.8, 0.4), superclass=plain, ceiling=0.8) == 1


def test_being_nearer_to_the_pictures_than_they_are_to_each_other_is_no_gain() -> None:
    assert image_gain(0.8, superclass=0.3, ceiling=0.8) == 1
    assert image_gain(0.99, superclass=0.3, ceiling=0.8) == 1
    assert image_gain(0.8, superclass=0.3, ceiling=None) < 1


@given(curves())
def test_the_recommended_strength_is_of_the_curve_and_none_is_better_balanced(one: Curve) -> None:
    best = recommended(one)
    assert recommended_strength(one) in {point.strength for point in one.points}

    def value(point: Point) -> float:
        return balance(point.similarity, superclass=one.superclass, ceiling=one.ceiling)

    assert all(value(point) <= value(best) for point in one.points)


def test_the_knee_is_where_more_strength_costs_more_text_than_it_brings() -> None:
    knee = curve((0.2, 0.35, 0.4), (0.6, 0.7, 0.36), (0.75, 0.72, 0.25), (0.9, 0.74, 0.1))
    assert recommended_strength(knee) == 0.6


def test_of_equal_points_the_lower_strength_is_recommended() -> None:
    assert recommended_strength(curve((0.4, 0.6, 0.3), (0.6, 0.6, 0.3), (0.9, 0.6, 0.3))) == 0.4


def test_where_nothing_gains_anything_the_nearest_to_the_pictures_is_recommended() -> None:
    assert recommended_strength(curve((0.2, 0.1, 0.4), (0.6, 0.25, 0.2), (0.9, 0.2, 0.4))) == 0.6


def proven(*images: float) -> Curve:
    """A curve whose points say 0.3 to 0.7, and a proof of these images over a plain 0.4."""
    proof = Proof(
        judging="v", images=images, windows=images, text=0.3, superclass=Similarity(0.4, 0.4)
    )
    return replace(curve((0.6, 0.7, 0.4)), proof=proof)


def test_a_concept_is_present_half_way_from_the_plain_superclass_to_itself() -> None:
    assert present_from(curve((0.6, 0.7, 0.4))) == pytest.approx(0.5)


def test_what_is_present_is_measured_by_the_proof_where_there_is_one() -> None:
    assert present_from(proven(0.6, 0.7, 0.8)) == pytest.approx(0.55)
