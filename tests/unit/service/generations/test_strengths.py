"""A concept's gate comes from the request, else the prompt, the row's strength or the locking."""

import math
from typing import Any

import pytest

from perfusion_core.strength import DEFAULT_TAU, beta_from_strength
from service.concepts import imports
from service.concepts import use_cases as concepts
from service.wiring import Service
from tests.unit.service.generations.requested import choose, refused, request
from tests.unit.service.staging import OWNER, core_concept, ready, register_base_model


def test_without_a_number_a_concept_takes_the_strength_that_its_row_recommends(
    service: Service,
) -> None:
    ready(service)
    recommended = concepts.get(service, OWNER, ref="teddy").recommended_strength
    assert recommended == 0.6
    untouched = request(service, "a <teddy>")["concepts"][0]
    written = request(service, f"a <teddy:{recommended}>")["concepts"][0]
    assert untouched == written
    assert untouched["beta"] == beta_from_strength(0.6)


def test_global_locking_takes_its_own_bias_and_not_the_recommended_strength(
    service: Service,
) -> None:
    ready(service)
    register_base_model(service, info={"defaults": {"generate": {"locking": "global"}}})
    assert request(service, "a <teddy>")["concepts"][0]["beta"] == 0.5
    assert request(service, "a <teddy>", locking="global")["concepts"][0]["beta"] == 0.5
    local = request(service, "a <teddy>", locking="local")["concepts"][0]
    assert local["beta"] == beta_from_strength(0.6)


def test_a_concept_that_was_never_evaluated_takes_the_usual_bias_of_the_locking(
    service: Service,
) -> None:
    register_base_model(service)
    imports.import_file(service, OWNER, data=core_concept().to_bytes())
    assert request(service, "a <teddy>")["concepts"][0]["beta"] == 0.7
    assert request(service, "a <teddy>", locking="global")["concepts"][0]["beta"] == 0.5


@pytest.mark.parametrize("locking", ["local", "global"])
@pytest.mark.parametrize(
    ("strength", "beta"),
    # As every earlier release computed them, so that an old request gives the same image.
    [(0.05, 1.441666), (0.3, 1.127095), (0.6, 0.939180), (0.88, 0.701135), (0.97, 0.478585)],
)
def test_a_strength_means_the_same_gate_as_ever_with_either_locking(
    service: Service, strength: float, beta: float, locking: str
) -> None:
    ready(service)
    written = request(service, f"a <teddy:{strength}>", locking=locking)["concepts"][0]
    chosen = request(
        service,
        "a <teddy>",
        locking=locking,
        **choose({"name": "teddy", "strength": strength}),
    )["concepts"][0]
    assert (written["beta"], written["tau"]) == (chosen["beta"], chosen["tau"])
    assert (written["beta"], written["tau"]) == (pytest.approx(beta, abs=1e-6), 0.15)


def test_an_explicit_value_wins_over_the_prompts(service: Service) -> None:
    ready(service)
    concept_id = concepts.get(service, OWNER, ref="teddy").id
    by_name = request(service, "<teddy:0.2>", **choose({"name": "teddy", "strength": 0.5}))
    by_id = request(service, "<teddy:0.2>", **choose({"id": concept_id, "beta": 0.7}))
    raw = request(service, "<teddy:0.2>", **choose({"name": "teddy", "beta": 1, "tau": 1}))
    silent = request(service, "<teddy:0.2>", **choose({"name": "teddy"}))
    gates = [
        (run["concepts"][0]["beta"], run["concepts"][0]["tau"])
        for run in (by_name, by_id, raw, silent)
    ]
    assert gates == [
        (1.0, DEFAULT_TAU),
        (0.7, DEFAULT_TAU),
        (1.0, 1.0),
        (beta_from_strength(0.2), DEFAULT_TAU),
    ]


@pytest.mark.parametrize("strength", [0, 1, -1, 1.5, math.nan, math.inf, 10**400, True, "0.5"])
def test_a_strength_lies_strictly_between_zero_and_one(service: Service, strength: Any) -> None:
    ready(service)
    error = refused(service, "<teddy>", **choose({"name": "teddy", "strength": strength}))
    assert error.errors[0].pointer == "/concepts/0/strength"


@pytest.mark.parametrize("written", ["0", "1", "-1", "nan", "inf", "1e400", "", "half", "0.5:2"])
def test_a_strength_in_the_prompt_is_held_to_the_same(service: Service, written: str) -> None:
    ready(service)
    error = refused(service, f"a <teddy:{written}>")
    assert (error.slug, error.errors[0].pointer) == ("prompt", "/prompt")


def test_two_strengths_of_one_concept_are_refused(service: Service) -> None:
    ready(service)
    assert refused(service, "<teddy:0.2> and <teddy:0.3>").slug == "prompt"


@pytest.mark.parametrize(
    ("choice", "pointer"),
    [
        ({"name": "teddy", "strength": 0.5, "beta": 0.7}, "/concepts/0/beta"),
        ({"name": "teddy", "strength": 0.5, "tau": 0.7}, "/concepts/0/tau"),
        ({"name": "teddy", "tau": 0.15}, "/concepts/0/tau"),
        ({"name": "teddy", "beta": math.nan}, "/concepts/0/beta"),
        ({"name": "teddy", "beta": 11}, "/concepts/0/beta"),
        ({"name": "teddy", "beta": 0.7, "tau": 0}, "/concepts/0/tau"),
        ({"name": "teddy", "beta": 0.7, "tau": -1}, "/concepts/0/tau"),
        ({"strength": 0.5}, "/concepts/0"),
        ({"name": "teddy", "id": "x", "strength": 0.5}, "/concepts/0"),
        ({"name": "rex", "strength": 0.5}, "/concepts/0/name"),
        ({"id": "teddy", "strength": 0.5}, "/concepts/0/id"),
        ({"name": "te\0ddy", "strength": 0.5}, "/concepts/0/name"),
        ({"id": "\ud800"}, "/concepts/0/id"),
    ],
)
def test_an_explicit_entry_is_checked(
    service: Service, choice: dict[str, Any], pointer: str
) -> None:
    ready(service)
    assert refused(service, "<teddy>", **choose(choice)).errors[0].pointer == pointer


def test_an_entry_that_the_prompt_does_not_mention_is_refused(service: Service) -> None:
    ready(service, "teddy")
    ready(service, "rex")
    error = refused(service, "<teddy>", **choose({"name": "rex", "strength": 0.5}))
    assert "does not mention <rex>" in error.detail
    entry = {"name": "teddy", "strength": 0.5}
    assert "twice" in refused(service, "<teddy>", **choose(entry, entry)).detail
