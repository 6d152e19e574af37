"""Request images; return the queued payload, or the refusal."""

from typing import Any

import pytest

from service.errors import Invalid
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.statuses import JobKind
from service.wiring import Service
from tests.unit.service.staging import OWNER, claim


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
