"""A request for images is checked completely, and fixed completely, before it is queued."""

import difflib
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from perfusion_core.strength import DEFAULT_TAU, beta_from_strength
from service.concepts import use_cases as concepts
from service.errors import Conflict, Invalid, TooManyRequests
from service.generations import unknown_names as near
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.idempotency import Idempotency
from service.jobs import use_cases as jobs
from service.statuses import JobKind
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    RecordedNotifier,
    claim,
    core_concept,
    ready,
    register_base_model,
    submit,
)


def request(service: Service, prompt: str = "a boat", **fields: Any) -> dict[str, Any]:
    """Return the payload of the job that a request makes."""
    body = GenerateRequest.read({"prompt": prompt, **fields})
    answer = generations.request(service, OWNER, body=body)
    return claim(service, answer.body["job"]["id"]).payload


def refused(service: Service, prompt: str = "a boat", **fields: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        request(service, prompt, **fields)
    for error in caught.value.errors:
        error.detail.encode()
    assert jobs.list_page(service, OWNER, kind=JobKind.GENERATE).items == ()
    return caught.value


def choose(*choices: dict[str, Any]) -> dict[str, Any]:
    return {"concepts": choices}


def test_a_request_is_queued_with_everything_that_a_retry_needs(
    service: Service, notifier: RecordedNotifier
) -> None:
    register_base_model(service, info={"defaults": {"generate": {"num_inference_steps": 20}}})
    ready(service, "teddy")
    ready(service, "rex")
    concept = concepts.get(service, OWNER, ref="teddy")
    payload = request(service, "<teddy> next to <rex:0.6>", num_images=2, seed=5)
    assert payload["prompt"] == "<teddy> next to <rex:0.6>"
    assert payload["seeds"] == [5, 6]
    assert payload["config"] == {"num_inference_steps": 20, "num_images": 2, "seed": 5}
    teddy, rex = payload["concepts"]
    assert teddy == {
        "id": concept.id,
        "name": "teddy",
        "sha256": concept.sha256,
        "blob_key": f"jobs/{concept.job_id}/1/concept.safetensors",
        "beta": beta_from_strength(concept.recommended_strength or 0),
        "tau": DEFAULT_TAU,
    }
    assert (rex["name"], rex["beta"]) == ("rex", beta_from_strength(0.6))
    [job] = jobs.list_page(service, OWNER, kind=JobKind.GENERATE).items
    assert job.progress.total_steps == 20
    assert notifier.notified[-1] == (job.id, "generate")


def test_a_seed_is_drawn_once_where_none_is_given(service: Service) -> None:
    seeds = [request(service, num_images=3)["seeds"] for _ in range(4)]
    assert all(b == (a + 1) % 2**32 for run in seeds for a, b in itertools.pairwise(run))
    assert len({run[0] for run in seeds}) == 4


def test_seeds_stay_within_32_bits(service: Service) -> None:
    assert request(service, num_images=2, seed=2**32 - 1)["seeds"] == [2**32 - 1, 0]


def test_a_plain_prompt_needs_no_concept(service: Service) -> None:
    payload = request(service, "a < b and <Not A Placeholder>")
    assert payload["concepts"] == []


def test_one_concept_twice_is_one_concept(service: Service) -> None:
    ready(service)
    payload = request(service, "<teddy> looks at <teddy:0.5>, another <teddy>")
    assert [use["beta"] for use in payload["concepts"]] == [1.0]


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


def test_a_concept_that_nobody_judged_takes_the_usual_bias_of_the_locking(
    service: Service,
) -> None:
    register_base_model(service)
    concepts.import_file(service, OWNER, data=core_concept().to_bytes())
    assert request(service, "a <teddy>")["concepts"][0]["beta"] == 0.7
    assert request(service, "a <teddy>", locking="global")["concepts"][0]["beta"] == 0.5


@pytest.mark.parametrize("locking", ["local", "global"])
@pytest.mark.parametrize(
    ("strength", "beta"),
    # As every release before computed them: an old request draws what it drew.
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


def test_an_unknown_placeholder_is_answered_with_the_nearest_names(service: Service) -> None:
    assert "no concept that is ready" in refused(service, "a <teddy>").detail
    for name in ("teddy", "red-teapot", "rex"):
        ready(service, name)
    error = refused(service, "a <tedy> beside a <red-teapots>")
    assert error.slug == "unknown-placeholder"
    assert [item.pointer for item in error.errors] == ["/prompt", "/prompt"]
    assert "<teddy>" in error.errors[0].detail
    assert "<red-teapot>" in error.errors[1].detail
    assert "Yours are" in refused(service, "a <zzzzzz>").detail


def test_the_search_for_what_was_meant_holds_no_transaction_open(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(service, "teddy")
    searched = []

    def searching(*arguments: Any) -> dict[str, list[str]]:
        with service.database.write() as session:  # another request is accepted meanwhile
            searched.append(service.database.now(session))
        return found(*arguments)

    found = near.nearest
    monkeypatch.setattr(near, "nearest", searching)
    assert "<teddy>" in refused(service, "a <tedy>").detail
    assert searched


def test_a_refusal_costs_few_comparisons_whatever_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    close = difflib.get_close_matches

    def counting(word: str, candidates: list[str], **options: Any) -> list[str]:
        compared.append(len(candidates))
        return close(word, candidates, **options)

    monkeypatch.setattr(difflib, "get_close_matches", counting)
    names = [f"a-concept-with-a-long-name-{k}" for k in range(1000)]
    assert near.nearest(["a-concept-with-a-long-nam-77"], names)
    assert compared == [8]


def test_of_many_unknown_names_a_few_are_told_what_is_near(service: Service) -> None:
    ready(service, "teddy")
    error = refused(service, " ".join(f"<tedd{k}>" for k in range(8)))
    assert len(error.errors) == 8
    assert [("nearest" in item.detail) for item in error.errors] == [True] * 4 + [False] * 4


def test_somebody_elses_concept_is_as_unknown_as_none(service: Service) -> None:
    ready(service, "teddy", owner_id=STRANGER)
    assert "no concept that is ready" in refused(service, "a <teddy>").detail


def test_a_concept_that_is_not_ready_is_a_conflict(service: Service) -> None:
    job_id = submit(service)
    with pytest.raises(Conflict, match="still being trained") as caught:
        request(service, "a <teddy>")
    assert caught.value.slug == "concept-not-ready"
    jobs.cancel(service, OWNER, job_id=job_id)
    with pytest.raises(Conflict, match="was cancelled"):
        request(service, "a <teddy>")


def test_a_concept_of_another_base_model_is_a_conflict_that_names_both(service: Service) -> None:
    ready(service)
    register_base_model(service, fingerprint="base-2")
    with pytest.raises(Conflict) as caught:
        request(service, "a <teddy>")
    assert caught.value.slug == "base-model-mismatch"
    assert "base-1" in caught.value.detail
    assert "base-2" in caught.value.detail


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"prompt": ""}, "/prompt"),
        ({"prompt": " \n"}, "/prompt"),
        ({"prompt": "a\0b"}, "/prompt"),
        ({"prompt": "\ud800"}, "/prompt"),
        ({"prompt": "x" * 2001}, "/prompt"),
        ({"prompt": 5}, "/prompt"),
        ({"prompt": " ".join(f"<c{n}>" for n in range(17))}, "/prompt"),
        ({"negative_prompt": "a\0b"}, "/negative_prompt"),
        ({"negative_prompt": "\udfff"}, "/negative_prompt"),
        ({"negative_prompt": "x" * 2001}, "/negative_prompt"),
        ({"seed": -1}, "/seed"),
        ({"seed": 2**32}, "/seed"),
        ({"seed": 10**40}, "/seed"),
        ({"seed": math.nan}, "/seed"),
        ({"seed": "1"}, "/seed"),
        ({"seed": True}, "/seed"),
        ({"num_images": 0}, "/num_images"),
        ({"num_images": 17}, "/num_images"),
        ({"num_inference_steps": 0}, "/num_inference_steps"),
        ({"guidance_scale": math.nan}, "/guidance_scale"),
        ({"guidance_scale": math.inf}, "/guidance_scale"),
        ({"guidance_scale": -1}, "/guidance_scale"),
        ({"width": 33}, "/width"),
        ({"height": 4096}, "/height"),
        ({"width": False}, "/width"),
        ({"scheduler": "magic"}, "/scheduler"),
        ({"locking": "both"}, "/locking"),
        ({"concepts": [{"name": "a"}] * 17}, "/concepts"),
    ],
)
def test_every_field_is_checked_strictly(
    service: Service, fields: dict[str, Any], pointer: str
) -> None:
    error = refused(service, **{"prompt": "a boat", **fields})
    assert pointer in [item.pointer for item in error.errors]


def test_an_image_is_bounded_by_the_size_of_the_base_model_once_that_is_known(
    service: Service,
) -> None:
    register_base_model(service, info={"resolution": 64})
    error = refused(service, "a boat", width=136, height=128)
    assert [item.pointer for item in error.errors] == ["/width", "/height"]
    assert "at most 16384" in error.errors[0].detail
    error = refused(service, "a boat", width=264)
    assert [item.pointer for item in error.errors] == ["/width"]
    request(service, "a boat", width=128, height=128)
    request(service, "a boat", width=256)
    register_base_model(service, fingerprint="base-2", info={})
    request(service, "a boat", width=2048, height=2048)


@pytest.mark.parametrize(
    ("negative", "slug"),
    [("a <rex>", "unknown-placeholder"), ("<teddy:2>", "prompt"), ("<teddy:0.3>", "prompt")],
)
def test_a_negative_prompt_names_only_concepts_of_the_prompt_and_no_strength(
    service: Service, negative: str, slug: str
) -> None:
    ready(service, "teddy")
    ready(service, "rex")
    error = refused(service, "a <teddy:0.5>", negative_prompt=negative)
    assert (error.slug, error.errors[0].pointer) == (slug, "/negative_prompt")


def test_a_negative_prompt_may_name_a_concept_of_the_prompt(service: Service) -> None:
    ready(service)
    payload = request(service, "a <teddy:0.5>", negative_prompt="a broken <teddy>, < blurry >")
    assert payload["config"]["negative_prompt"] == "a broken <teddy>, < blurry >"


def test_several_wrong_fields_are_all_named(service: Service) -> None:
    error = refused(service, seed=-1, num_images=99)
    assert {item.pointer for item in error.errors} == {"/seed", "/num_images"}


def test_prompts_are_stored_in_one_normal_form(service: Service) -> None:
    assert request(service, "cafe\u0301")["prompt"] == "caf\u00e9"


def test_a_repeated_request_repeats_its_seed(service: Service, notifier: RecordedNotifier) -> None:
    body = GenerateRequest(prompt="a boat")
    key = Idempotency("k1")
    first = generations.request(service, OWNER, body=body, idempotency=key)
    again = generations.request(service, OWNER, body=body, idempotency=key)
    assert again == replace(first, replayed=True)
    assert len(notifier.notified) == 1
    other = GenerateRequest(prompt="a ship")
    with pytest.raises(Invalid, match="another request"):
        generations.request(service, OWNER, body=other, idempotency=key)


def test_a_full_queue_is_too_many_requests(make_service: Callable[..., Service]) -> None:
    service = make_service(max_queued_jobs_per_owner=1)
    generations.request(service, OWNER, body=GenerateRequest(prompt="a boat"))
    with pytest.raises(TooManyRequests):
        generations.request(service, OWNER, body=GenerateRequest(prompt="a boat"))
