"""A job says what it was asked for, with every default filled in."""

from dataclasses import asdict
from typing import Any

import pytest
from sqlalchemy import update

from perfusion_core.config import GenerateConfig, TrainConfig
from perfusion_core.strength import DEFAULT_TAU, beta_from_strength
from service.concepts import use_cases as concepts
from service.database.tables import JobRow
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import requested
from service.jobs import use_cases as jobs
from service.wiring import Service
from tests.unit.service.staging import OWNER, ready, register_base_model, submit, uploaded


@pytest.fixture(autouse=True)
def base_model(service: Service) -> None:
    own = {"generate": {"num_inference_steps": 20, "scheduler": "euler"}, "train": {"seed": 3}}
    register_base_model(service, info={"defaults": own})


def accepted(service: Service, prompt: str, **fields: Any) -> dict[str, Any]:
    """Return the request in the answer, which is also the one that the job tells later."""
    body = GenerateRequest.read({"prompt": prompt, **fields})
    job = generations.request(service, OWNER, body=body).body["job"]
    assert job["request"] == told(service, job["id"])
    request: dict[str, Any] = job["request"]
    return request


def told(service: Service, job_id: str) -> Any:
    return jobs.get(service, OWNER, job_id=job_id).to_json()["request"]


def test_a_generation_tells_every_option_and_the_gates_that_were_used(service: Service) -> None:
    ready(service, "teddy")
    ready(service, "rex")
    chosen = {"concepts": [{"name": "rex", "beta": 0.4, "tau": 0.2}]}
    request = accepted(service, "<teddy:0.6> and <rex>", seed=7, negative_prompt="dark", **chosen)
    teddy, rex = request.pop("concepts")
    assert (teddy["name"], teddy["strength"]) == ("teddy", 0.6)
    assert (teddy["beta"], teddy["tau"]) == (beta_from_strength(0.6), DEFAULT_TAU)
    assert (rex["strength"], rex["beta"], rex["tau"]) == (0.9526, 0.4, 0.2)
    assert request == {
        **asdict(GenerateConfig()),
        "num_inference_steps": 20,
        "scheduler": "euler",
        "seed": 7,
        "negative_prompt": "dark",
        "kind": "generate",
        "prompt": "<teddy:0.6> and <rex>",
        "attention_maps": False,
        "sweep": None,
        "edit": None,
    }


def test_a_seed_that_was_drawn_is_told(service: Service) -> None:
    assert isinstance(accepted(service, "a boat")["seed"], int)


def test_the_steepest_gate_has_a_strength_too(service: Service) -> None:
    ready(service, "rex")
    chosen = {"concepts": [{"name": "rex", "beta": 10.0, "tau": 1e-9}]}
    assert accepted(service, "<rex>", **chosen)["concepts"][0]["strength"] == 0


def test_a_sweep_tells_its_axes_and_the_values_of_its_first_cell(service: Service) -> None:
    axes = [{"field": "seed", "values": [4, 5]}, {"field": "locking", "values": ["global"]}]
    request = accepted(service, "a boat", sweep={"axes": axes})
    assert request["sweep"] == {"axes": axes}
    assert (request["seed"], request["locking"], request["num_images"]) == (4, "global", 1)


def test_a_training_tells_its_options_over_the_base_models_own(service: Service) -> None:
    chosen = {"name": "rex", "superclass": "bear", "training": {"max_train_steps": 9}}
    answer = concepts.create(service, OWNER, pictures=uploaded(), **chosen)
    request = answer.body["job"]["request"]
    assert request == told(service, answer.body["job"]["id"])
    assert request == {
        "kind": "train",
        "name": "rex",
        "superclass": "bear",
        "pictures": len(uploaded()),
        "training": {**asdict(TrainConfig()), "seed": 3, "max_train_steps": 9},
        "replace": "if-better",
    }


def test_a_job_of_another_release_tells_what_this_release_can_read(service: Service) -> None:
    old = {"name": "rex", "superclass": "bear", "pictures": [], "training": {"of_old": 1}}
    job_ids = [submit(service, name) for name in ("rex", "tom")]
    with service.database.write() as session:
        for job_id, payload in zip(job_ids, (old, {**old, "version": 99}), strict=True):
            session.execute(update(JobRow).where(JobRow.id == job_id).values(payload=payload))
    requested._request_of.cache_clear()  # another process has accepted the jobs
    assert told(service, job_ids[0])["training"] == asdict(TrainConfig())
    assert told(service, job_ids[1]) is None
