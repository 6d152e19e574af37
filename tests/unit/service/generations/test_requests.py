"""A request for images is checked completely before it is queued, and its seeds are fixed."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from perfusion_core.strength import DEFAULT_TAU, beta_from_strength
from service import base_models
from service.concepts import use_cases as concepts
from service.errors import Conflict, Invalid, TooManyRequests
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.idempotency import Idempotency
from service.jobs import use_cases as jobs
from service.statuses import JobKind
from service.wiring import Service
from tests.unit.service.generations.requested import refused, request
from tests.unit.service.staging import OWNER, RecordedNotifier, ready, register_base_model, submit


def test_a_request_is_queued_with_everything_that_a_retry_needs(
    service: Service, notifier: RecordedNotifier
) -> None:
    register_base_model(service, info={"defaults": {"generate": {"num_inference_steps": 20}}})
    ready(service, "teddy")
    ready(service, "rex")
    concept = concepts.get(service, OWNER, ref="teddy")
    payload = request(service, "<teddy> next to <rex:0.6>", num_images=2, seed=5)
    assert payload["prompt"] == "<teddy> next to <rex:0.6>"
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
    seeds = {request(service, num_images=3)["config"]["seed"] for _ in range(4)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_a_plain_prompt_needs_no_concept(service: Service) -> None:
    payload = request(service, "a < b and <Not A Placeholder>")
    assert payload["concepts"] == []


def test_one_concept_twice_is_one_concept(service: Service) -> None:
    ready(service)
    payload = request(service, "<teddy> looks at <teddy:0.5>, another <teddy>")
    assert [use["beta"] for use in payload["concepts"]] == [1.0]


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
        ({"scheduler": "lcm", "num_inference_steps": 51}, "/num_inference_steps"),
        ({"guidance_rescale": 1.1}, "/guidance_rescale"),
        ({"locking": "both"}, "/locking"),
        ({"concepts": [{"name": "a"}] * 17}, "/concepts"),
    ],
)
def test_every_field_is_checked_strictly(
    service: Service, fields: dict[str, Any], pointer: str
) -> None:
    error = refused(service, **{"prompt": "a boat", **fields})
    assert pointer in [item.pointer for item in error.errors]


def test_auto_is_the_base_models_own_scheduler_and_the_job_says_which(service: Service) -> None:
    own = {"scheduler": "tcd", "num_inference_steps": 4, "guidance_scale": 0.0}
    register_base_model(service, info={"defaults": {"train": {}, "generate": own}})
    for asked in ({}, {"scheduler": "auto"}):
        config = request(service, "a boat", **asked)["config"]
        assert {name: config[name] for name in own} == own
    assert request(service, "a boat", scheduler="euler")["config"]["scheduler"] == "euler"
    told = base_models.describe(service).defaults["generate"]
    assert {name: told[name] for name in own} == own


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
