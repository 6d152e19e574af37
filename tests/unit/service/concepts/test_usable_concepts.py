"""The view of a concept says whether a prompt can use it now, as a request would find."""

from typing import Any

import pytest

from service.concepts import use_cases as concepts
from service.concepts.views import ConceptView
from service.errors import Conflict, problem
from service.execution import leases
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.wiring import Service
from tests.unit.service.staging import OWNER, claim, ready, register_base_model, submit


def seen(service: Service, name: str = "teddy") -> ConceptView:
    """Return the concept's view, which is the same as in the list."""
    found = concepts.get(service, OWNER, ref=name)
    (listed,) = (item for item in concepts.list_page(service, OWNER).items if item.name == name)
    assert (listed.usable, listed.reason) == (found.usable, found.reason)
    return found


def accepts(service: Service, prompt: str) -> bool:
    try:
        generations.request(service, OWNER, body=GenerateRequest(prompt=prompt))
    except Conflict:
        return False
    return True


def test_a_ready_concept_of_the_served_base_model_is_usable_without_a_reason(
    service: Service,
) -> None:
    ready(service)
    assert (seen(service).usable, seen(service).reason) == (True, None)
    assert accepts(service, "a <teddy>")


@pytest.mark.parametrize(
    ("served", "told"),
    [
        ({"fingerprint": "base-2"}, ("(tiny, base-1)", "(tiny, base-2)", "another base model")),
        ({"covariance_fingerprint": "cov-2"}, ("cov-1", "cov-2", "covariance")),
    ],
)
def test_a_concept_of_another_base_model_stays_listed_with_what_is_served_and_what_to_do(
    service: Service, served: dict[str, Any], told: tuple[str, ...]
) -> None:
    ready(service)
    register_base_model(service, **served)
    found = seen(service)
    assert found.status == "ready" and not found.usable
    assert found.reason is not None
    assert all(word in found.reason for word in told)
    assert "Train it again here" in found.reason
    assert not accepts(service, "a <teddy>")
    register_base_model(service)  # the concept's base model is served again
    assert seen(service).usable and accepts(service, "a <teddy>")


def test_before_a_worker_has_told_of_a_base_model_a_ready_concept_is_usable(
    make_service: Any,
) -> None:
    fresh: Service = make_service()
    ready(fresh)
    assert seen(fresh).usable and accepts(fresh, "a <teddy>")


def test_a_concept_that_is_not_ready_says_so(service: Service) -> None:
    claimed = claim(service, submit(service))
    found = seen(service)
    assert not found.usable and "still being trained" in (found.reason or "")
    leases.fail(service, claimed, problem=problem("broken", "It broke."))
    found = seen(service)
    assert not found.usable and "Look at its job" in (found.reason or "")


def test_a_page_of_concepts_asks_once_for_the_served_base_model(service: Service) -> None:
    from sqlalchemy import event

    for name in ("a", "b", "c"):
        ready(service, name)
    asked: list[str] = []
    event.listen(
        service.database.engine, "before_cursor_execute", lambda *call: asked.append(call[2])
    )
    assert len(concepts.list_page(service, OWNER).items) == 3
    assert len([statement for statement in asked if "base_models" in statement]) == 1
