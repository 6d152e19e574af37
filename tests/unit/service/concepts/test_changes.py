"""A concept gets another name or a description; its file, jobs and images go on."""

from typing import Any

import pytest

from service.concepts import changes, imports
from service.concepts import use_cases as concepts
from service.concepts.changes import ConceptChanges
from service.concepts.views import MAX_DESCRIPTION_LENGTH, ConceptView
from service.errors import Conflict, Invalid, NotFound
from service.execution import leases
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.images import use_cases as images
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    claim,
    core_concept,
    generated,
    ready,
    register_base_model,
    submit,
    trained,
)


def change(service: Service, ref: str, **given: Any) -> ConceptView:
    return changes.change(service, OWNER, ref=ref, changes=ConceptChanges.read(given))


def test_a_renamed_concept_keeps_everything_else(service: Service) -> None:
    register_base_model(service)
    ready(service, "teddy")
    before = concepts.get(service, OWNER, ref="teddy")
    renamed = change(service, "teddy", name="bruno")
    assert renamed.to_json() == {
        **before.to_json(),
        "name": "bruno",
        "placeholder": "<bruno>",
    }
    assert concepts.read_file(service, OWNER, ref="bruno").sha256 == before.sha256
    with pytest.raises(NotFound):
        concepts.get(service, OWNER, ref="teddy")
    submit(service, "teddy")  # the earlier name is free


def test_a_job_that_was_accepted_under_the_earlier_name_goes_on(service: Service) -> None:
    register_base_model(service)
    ready(service, "teddy")
    body = GenerateRequest(prompt="a photo of <teddy>")
    job_id = generations.request(service, OWNER, body=body).body["job"]["id"]
    change(service, "teddy", name="bruno")
    claimed = claim(service, job_id)
    assert claimed.payload["concepts"][0]["name"] == "teddy"
    leases.finish_generation(service, claimed, images=generated(service, claimed))
    for ref in ("teddy", "bruno"):
        (image,) = images.list_page(service, OWNER, concept=ref).items
        assert image.job_id == job_id


def test_a_concept_that_is_renamed_in_its_training_becomes_ready(service: Service) -> None:
    claimed = claim(service, submit(service, "teddy"))
    change(service, "teddy", name="bruno")
    assert leases.finish_training(service, claimed, trained=trained(service, claimed))
    assert concepts.get(service, OWNER, ref="bruno").status.value == "ready"


def test_a_name_that_is_taken_is_refused_and_says_what_to_do(service: Service) -> None:
    ready(service, "teddy")
    submit(service, "rex")
    with pytest.raises(Conflict, match="with the field `name`") as caught:
        change(service, "rex", name="teddy", description="It.")
    assert caught.value.slug == "name-taken"
    assert [error.pointer for error in caught.value.errors] == ["/name"]
    assert concepts.get(service, OWNER, ref="rex").description is None
    assert change(service, "rex", name="rex").name == "rex"
    submit(service, "bruno", owner_id=STRANGER)
    assert change(service, "rex", name="bruno").name == "bruno"


def test_an_import_of_a_taken_name_says_how_to_take_another(service: Service) -> None:
    register_base_model(service)
    data = core_concept("teddy").to_bytes()
    imports.import_file(service, OWNER, data=data)
    with pytest.raises(Conflict, match="with the field `name`"):
        imports.import_file(service, OWNER, data=data)
    imports.import_file(service, OWNER, data=data, name="teddy-2")


def test_a_description_is_set_and_removed_without_a_change_of_the_name(service: Service) -> None:
    submit(service, "teddy")
    told = change(service, "teddy", description="  From grandma.\n")
    assert (told.name, told.description) == ("teddy", "From grandma.")
    assert change(service, "teddy").description == "From grandma."
    assert change(service, "teddy", name="bruno").description == "From grandma."
    assert change(service, "bruno", description=None).description is None
    assert change(service, "bruno", description=" ").description is None


@pytest.mark.parametrize(
    ("given", "pointer"),
    [
        ({"name": None}, "/name"),
        ({"name": "Teddy"}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "x" * 64}, "/name"),
        ({"description": "x" * (MAX_DESCRIPTION_LENGTH + 1)}, "/description"),
        ({"description": "a\0b"}, "/description"),
        ({"description": 1}, "/description"),
        ({"superclass": "dog"}, "/superclass"),
    ],
)
def test_a_change_that_breaks_a_rule_is_refused(
    service: Service, given: dict[str, Any], pointer: str
) -> None:
    submit(service, "teddy")
    with pytest.raises(Invalid) as caught:
        change(service, "teddy", **given)
    assert [error.pointer for error in caught.value.errors] == [pointer]
    assert concepts.get(service, OWNER, ref="teddy").description is None
