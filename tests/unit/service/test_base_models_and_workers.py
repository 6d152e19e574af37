"""Workers report that they are alive and which base model they serve."""

from dataclasses import replace

from sqlalchemy import func, select

from service import base_models, workers
from service.database.tables import BaseModelRow
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.statuses import LoadingPhase, LoadingState
from service.wiring import Service
from tests.unit.service.staging import OWNER, Clock, at_once, claim, register_base_model, submit


def test_defaults_of_a_newer_worker_that_this_release_does_not_know_are_left_to_it(
    service: Service,
) -> None:
    train = {"max_train_steps": 150, "of_tomorrow": True, "locking": "sideways"}
    generate = {"num_inference_steps": 15, "of_tomorrow": 1, "scheduler": "of_tomorrow"}
    register_base_model(service, info={"defaults": {"train": train, "generate": generate}})
    body = GenerateRequest(prompt="a boat")
    drawn = generations.request(service, OWNER, body=body).body["job"]["id"]
    trains = claim(service, submit(service)).payload["training"]
    draws = claim(service, drawn).payload["config"]
    assert trains == {"max_train_steps": 150}
    assert draws["num_inference_steps"] == 15
    assert not {"of_tomorrow", "scheduler"} & set(draws)


def test_a_worker_is_alive_as_long_as_it_gives_signs(service: Service, clock: Clock) -> None:
    assert workers.live(service) == []
    workers.seen(service, "w1", queues=["train"], device="cpu")
    clock.tick(20)
    workers.seen(service, "w2", queues=["generate", "train"], device="cuda")
    assert [(view.id, view.queues, view.device) for view in workers.live(service)] == [
        ("w1", ("train",), "cpu"),
        ("w2", ("generate", "train"), "cuda"),
    ]
    clock.tick(20)
    assert [view.id for view in workers.live(service)] == ["w2"]
    workers.seen(service, "w1", queues=["train"], device="cpu")
    assert len(workers.live(service)) == 2
    workers.gone(service, "w2")
    assert [view.id for view in workers.live(service)] == ["w1"]


def test_a_worker_that_loads_says_how_far_it_is_and_counts_once_it_is_ready(
    service: Service, clock: Clock
) -> None:
    def state(detail: str, progress: float | None = None) -> LoadingState:
        return LoadingState(phase=LoadingPhase.FETCHING, detail=detail, progress=progress)

    workers.seen_loading(service, "w1", state=state("It is fetched."))
    workers.seen_loading(service, "w1", state=state("It is nearly fetched.", 0.9))
    workers.seen_loading(service, "w2", state=state("It is fetched."))
    assert [(each.id, each.detail, each.progress) for each in workers.loading(service)] == [
        ("w1", "It is nearly fetched.", 0.9),
        ("w2", "It is fetched.", None),
    ]
    assert workers.live(service) == []
    workers.seen(service, "w1", queues=["train"], device="cpu")
    assert [each.id for each in workers.live(service)] == ["w1"]
    assert [each.id for each in workers.loading(service)] == ["w2"]
    workers.gone(service, "w2")
    assert workers.loading(service) == []
    workers.seen_loading(service, "w3", state=state("It is fetched."))
    clock.tick(40)
    assert workers.loading(service) == []


def test_what_becomes_known_of_a_base_model_later_does_not_make_it_the_current_one(
    service: Service, clock: Clock
) -> None:
    register_base_model(service)
    earlier = base_models.current_base_model(service)
    assert earlier is not None
    clock.tick(1)
    register_base_model(service, fingerprint="base-2", info={"warnings": ["No judge."]})
    assert base_models.warnings(service) == ["No judge."]
    base_models.update_base_model(service, replace(earlier, info={"evaluator": "clip"}))
    current = base_models.current_base_model(service)
    assert current is not None
    assert current.fingerprint == "base-2"


def test_the_base_model_registered_last_is_the_current_one(service: Service, clock: Clock) -> None:
    assert base_models.current_base_model(service) is None
    assert base_models.defaults(None, of="train") == {}
    register_base_model(service)
    register_base_model(service, fingerprint="base-2", name="other", info={})
    current = base_models.current_base_model(service)
    assert current is not None
    assert (current.name, current.fingerprint) == ("other", "base-2")
    assert base_models.defaults(current, of="train") == {}
    register_base_model(service)
    current = base_models.current_base_model(service)
    assert current is not None
    assert base_models.defaults(current, of="train") == {"max_train_steps": 150}


def test_workers_that_load_the_same_base_model_at_once_register_it_once(
    service: Service,
) -> None:
    at_once([lambda: register_base_model(service)] * 8)
    with service.database.read() as session:
        assert session.scalar(select(func.count()).select_from(BaseModelRow)) == 1
