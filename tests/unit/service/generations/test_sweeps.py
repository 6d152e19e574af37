"""A sweep is checked completely before it is queued, and every cell is a request of its own."""

from typing import Any

import pytest

from perfusion_core.strength import DEFAULT_TAU, beta_from_strength
from service.errors import Invalid
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.jobs.cells import StoredCell, cells_of
from service.jobs.payloads import NEWEST_VERSION, GeneratePayload
from service.wiring import Service
from tests.unit.service.generations.requested import choose, refused, request
from tests.unit.service.staging import OWNER, ready, register_base_model


def sweep(*axes: tuple[str, list[Any]]) -> dict[str, Any]:
    return {"sweep": {"axes": [{"field": field, "values": values} for field, values in axes]}}


def cells(service: Service, prompt: str = "a <rex>", **fields: Any) -> list[StoredCell]:
    return cells_of(GeneratePayload.read(request(service, prompt, **fields)))


def problems(service: Service, prompt: str = "a <rex>", **fields: Any) -> list[tuple[str, str]]:
    return [(each.pointer, each.detail) for each in refused(service, prompt, **fields).errors]


@pytest.fixture(autouse=True)
def concepts(service: Service) -> None:
    register_base_model(service, info={"defaults": {"generate": {"num_inference_steps": 20}}})
    ready(service, "rex")
    ready(service, "teddy")


def test_a_cell_asks_for_what_the_same_request_alone_asks_for(service: Service) -> None:
    prompts = ["a <rex:0.5> on a <teddy>", "two boats", "a <teddy> and a <rex>"]
    for first, second in (
        (("beta:rex", [0.8, 0.6, 0.4]), ("seed", [1, 2])),
        (("strength:rex", [0.5, 0.7]), ("locking", ["local", "global"])),
        (("prompt", prompts), ("guidance_scale", [2, 3.5])),
        (("num_inference_steps", [2, 30]), ("scheduler", ["auto", "euler"])),
    ):
        common = {"seed": 9, "scheduler": "ddim", **choose({"name": "teddy", "strength": 0.4})}
        if first[0] == "prompt":
            del common["concepts"]
        prompt = "a <rex> and a <teddy>"
        swept = cells(service, prompt, **common, **sweep(first, second))
        assert [cell.position for cell in swept] == [
            (column, row) for row in range(len(second[1])) for column in range(len(first[1]))
        ]
        for cell in swept:
            assert cell.position is not None
            fields: dict[str, Any] = {"prompt": prompt, **common}
            for (field, values), place in zip((first, second), cell.position, strict=True):
                kind, _, name = field.partition(":")
                if name:
                    own = {"name": name, kind: values[place]}
                    fields["concepts"] = [*fields["concepts"], own]
                else:
                    fields[field] = values[place]
            (alone,) = cells(service, **fields)
            assert (cell.prompt, cell.concepts) == (alone.prompt, alone.concepts)
            assert cell.options == {
                **alone.options,
                "num_images": 1,
                **({"scheduler": fields["scheduler"]} if fields["scheduler"] == "auto" else {}),
            }


def test_all_cells_have_one_seed_unless_seed_is_an_axis(service: Service) -> None:
    drawn = {cell.options["seed"] for cell in cells(service, **sweep(("beta:rex", [0.8, 0.6])))}
    assert len(drawn) == 1
    swept = cells(service, seed=7, **sweep(("seed", [1, 2.0])))
    assert [cell.options["seed"] for cell in swept] == [1, 2]


def test_only_workers_that_know_sweeps_take_one_and_its_row_stays_small(service: Service) -> None:
    axes = sweep(("beta:rex", [k / 10 for k in range(8)]), ("prompt", ["a <rex> " * 9] * 8))
    payload = request(service, "a <rex>", **axes)
    assert payload["version"] == NEWEST_VERSION
    assert len(str(payload)) < 4000
    assert GeneratePayload.read(payload).to_row() == payload
    assert request(service, "a <rex>")["version"] == 1


def test_the_job_counts_the_steps_of_its_longest_cell(service: Service) -> None:
    request(service, "a <rex>", **sweep(("num_inference_steps", [2, 30, 8])))
    (job,) = jobs.list_page(service, OWNER).items[:1]
    assert job.progress.total_steps == 30


def test_an_axis_takes_the_place_of_the_fields_own_value(service: Service) -> None:
    own = choose({"name": "rex", "beta": 0.3, "tau": 0.2})
    weak, strong = cells(service, **own, **sweep(("beta:rex", [0.8, 0.4])))
    assert [(use.beta, use.tau) for use in (*weak.concepts, *strong.concepts)] == [
        (0.8, 0.2),
        (0.4, 0.2),
    ]
    (cell,) = cells(service, "a <rex:0.9>", **own, **sweep(("strength:rex", [0.5])))
    assert (cell.concepts[0].beta, cell.concepts[0].tau) == (beta_from_strength(0.5), DEFAULT_TAU)


def test_what_is_wrong_with_a_sweep_is_told_at_its_place(service: Service) -> None:
    def pointers(*axes: tuple[str, list[Any]], **fields: Any) -> list[str]:
        return [pointer for pointer, _ in problems(service, **fields, **sweep(*axes))]

    beta = ("beta:rex", [0.8, 0.6])
    for name in ("width", "sweep", "beta", "beta:", "strength:Rex", "tau:rex", "beta:rex:x", ""):
        assert pointers((name, [1])) == ["/sweep/axes/0/field"]
    assert pointers(beta, ("seed", [])) == ["/sweep/axes/1/values"]
    assert pointers(beta, ("beta:rex", [0.1])) == ["/sweep/axes/1/field"]
    assert pointers(beta, ("strength:rex", [0.1])) == ["/sweep/axes/1/field"]
    assert pointers(beta, ("beta:teddy", [0.1])) == ["/sweep/axes/1/field"]
    assert pointers(beta, ("beta:nobody", [0.1])) == ["/sweep/axes/1/field"]
    assert pointers(beta, num_images=2) == ["/num_images"]
    assert pointers(*[("seed", [1])] * 3) == ["/sweep/axes"]
    assert pointers() == ["/sweep/axes"]
    assert pointers(("seed", [1, -1, 2, "3", 2**32])) == [
        f"/sweep/axes/0/values/{k}" for k in (1, 3, 4)
    ]
    assert pointers(beta, ("strength:teddy", [0.5, 1]), prompt="a <rex> and a <teddy>") == [
        "/sweep/axes/1/values/1"
    ]
    assert pointers(("locking", ["local", "both"])) == ["/sweep/axes/0/values/1"]
    assert pointers(("prompt", ["a boat", " "])) == ["/sweep/axes/0/values/1"]
    assert pointers(("prompt", ["a boat", "a <nobody>"])) == ["/sweep/axes/0/values/1"]
    assert pointers(("prompt", ["a <rex>", "a boat"]), beta) == ["/sweep/axes/1/field"]
    assert pointers(("scheduler", ["ddim", "lcm"]), ("num_inference_steps", [8, 100])) == [
        "/sweep/axes/1/values/1"
    ]
    assert pointers(("denoising_strength", [0.5])) == ["/sweep/axes/0/values/0"]  # of no picture
    assert pointers(beta, width=33) == ["/width"]


def test_a_sweep_has_64_cells_at_most(service: Service) -> None:
    for axes in ([("seed", [*range(65)])], [("seed", [*range(13)]), ("guidance_scale", [1] * 5)]):
        (told,) = problems(service, **sweep(*axes))
        assert told == ("/sweep/axes", "A sweep may have 64 cells at most; this one has 65.")
    assert len(cells(service, **sweep(("seed", [*range(64)])))) == 64


def test_values_of_another_type_are_refused() -> None:
    for value in (None, True, [1], {"a": 1}):
        with pytest.raises(Invalid) as caught:
            GenerateRequest.read({"prompt": "a boat", **sweep(("seed", [1, value]))})
        assert all(
            error.pointer.startswith("/sweep/axes/0/values/1") for error in caught.value.errors
        )
