"""Job payloads: what one release writes another one reads, or leaves alone."""

from typing import Any

import pytest

from perfusion_core.config import TrainConfig
from service.concepts import use_cases as concepts
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs.payloads import (
    NEWEST_VERSION,
    VERSION,
    EditPayload,
    GeneratePayload,
    NewerPayload,
    TrainPayload,
)
from service.wiring import Service
from tests.unit.service.staging import OWNER, claim, ready, submit, uploaded

CONCEPT = {
    "id": "concept_1",
    "name": "teddy",
    "sha256": "5" * 64,
    "blob_key": "jobs/job_1/1/concept.safetensors",
    "beta": 0.7,
    "tau": 0.15,
}
# As releases without versions write them.
TRAINING: dict[str, Any] = {
    "name": "teddy",
    "superclass": "bear",
    "pictures": [
        {"blob_key": "a.png", "mask_key": None, "width": 48, "height": 40, "has_alpha": False}
    ],
    "training": {"max_train_steps": 7},
}
GENERATION: dict[str, Any] = {
    "prompt": "a <teddy>",
    "concepts": [CONCEPT],
    "config": {"num_images": 2, "seed": 5},
    "seeds": [5, 6],
}


def test_what_a_release_without_versions_wrote_is_read() -> None:
    training = TrainPayload.read(TRAINING)
    assert (training.name, training.superclass, training.replace) == ("teddy", "bear", "if-better")
    assert [(each.blob_key, each.mask_key) for each in training.pictures] == [("a.png", None)]
    assert training.training == {"max_train_steps": 7}
    assert TrainPayload.read({**TRAINING, "replace": "always"}).replace == "always"
    generation = GeneratePayload.read(GENERATION)
    assert generation.concepts[0].model_dump() == CONCEPT
    assert generation.config == {"num_images": 2, "seed": 5}
    assert generation.attention_maps is False
    assert GeneratePayload.read({**GENERATION, "attention_maps": True}).attention_maps is True


def test_what_this_release_writes_has_the_keys_that_the_previous_one_reads(
    service: Service,
) -> None:
    ready(service)
    body = GenerateRequest(prompt="a <teddy>", attention_maps=True)
    answer = generations.request(service, OWNER, body=body)
    generation = claim(service, answer.body["job"]["id"]).payload
    assert generation["version"] == VERSION
    assert set(generation) >= {"prompt", "concepts", "config", "attention_maps"}
    assert set(generation["concepts"][0]) == set(CONCEPT)
    assert GeneratePayload.read(generation).to_row() == generation
    training = claim(service, submit(service, "rex")).payload
    assert training["version"] == VERSION
    assert set(training) >= {"name", "superclass", "pictures", "training", "replace"}
    assert set(training["pictures"][0]) >= {"blob_key", "mask_key"}
    assert TrainPayload.read(training).to_row() == training


@pytest.mark.parametrize(
    ("kind", "stored"), [(TrainPayload, TRAINING), (GeneratePayload, GENERATION)]
)
def test_a_payload_that_only_a_newer_release_knows_is_refused(kind: Any, stored: Any) -> None:
    assert kind.read({**stored, "version": VERSION, "of_tomorrow": 1}) == kind.read(stored)
    with pytest.raises(NewerPayload):
        kind.read({**stored, "version": NEWEST_VERSION + 1})
    with pytest.raises(NewerPayload):
        kind.read({"version": VERSION})


def test_an_edit_is_written_so_that_earlier_releases_leave_it_alone() -> None:
    plain = GeneratePayload.read(GENERATION)
    edit = plain.model_copy(update={"edit": EditPayload(image_id="image_1")})
    assert (plain.to_row()["version"], edit.to_row()["version"]) == (VERSION, NEWEST_VERSION)
    assert NEWEST_VERSION > VERSION  # which is the highest version that earlier releases read
    assert GeneratePayload.read(edit.to_row()).edit == edit.edit


def test_a_whole_number_with_a_point_is_an_option_that_the_worker_takes(service: Service) -> None:
    answer = concepts.create(
        service,
        OWNER,
        name="teddy",
        superclass="bear",
        pictures=uploaded(),
        training={"max_train_steps": 12.0},
    )
    payload = TrainPayload.read(claim(service, answer.body["job"]["id"]).payload)
    assert TrainConfig(**payload.training).max_train_steps == 12
