"""A row's verdict is computed on reading, by the served calibration, for its own judging alone."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from service.concepts import curves, imports
from service.concepts import use_cases as concepts
from service.concepts.views import VerdictView
from service.database.tables import ConceptRow
from service.execution import leases
from service.wiring import Service
from tests.unit.service.staging import (
    CALIBRATION,
    OWNER,
    claim,
    core_concept,
    evaluation,
    ready,
    register_base_model,
    submit,
    trained,
)


def seen(service: Service, name: str = "teddy") -> VerdictView:
    """Return the concept's verdict, which is the same in its view, in a list and with its curve."""
    found = concepts.get(service, OWNER, ref=name).verdict
    (listed,) = (item for item in concepts.list_page(service, OWNER).items if item.name == name)
    assert found is not None
    assert found == listed.verdict == curves.get(service, OWNER, ref=name).verdict
    return found


def serve(service: Service, **calibration: Any) -> None:
    told = {**CALIBRATION.to_json(), **calibration}
    register_base_model(service, info={"defaults": {}, "calibration": told})


def test_a_verdict_follows_the_calibration_that_is_served(service: Service) -> None:
    serve(service)
    ready(service)
    assert seen(service).quality == "good"
    serve(service, thresholds={"gain": 0.99, "presence": 0, "kept": 0})
    assert seen(service).quality == "weak"
    serve(service)
    assert seen(service).quality == "good"


@pytest.mark.parametrize(
    ("served", "why"),
    [
        ({"evaluator": "x"}, "Another evaluator"),
        ({"judging": "then"}, "earlier release"),
        ({"base_model": "base-2"}, "another base model"),
    ],
)
def test_a_concept_that_was_judged_otherwise_is_uncalibrated_and_keeps_its_curve(
    service: Service, served: dict[str, str], why: str
) -> None:
    ready(service)
    serve(service, **served)
    judged = seen(service)
    assert judged.quality == "uncalibrated"
    assert why in judged.reasons[0]
    assert "where a plain bear has 0.35" in judged.reasons[1]
    assert len(curves.get(service, OWNER, ref="teddy").points) == 3


@pytest.mark.parametrize("told", [None, {"thresholds": "of a later release"}])
def test_a_base_model_without_a_calibration_has_no_verdicts(
    service: Service, told: dict[str, str] | None
) -> None:
    ready(service)
    register_base_model(service, info={"calibration": told})
    assert seen(service).quality == "uncalibrated"
    register_base_model(service, info={})  # a worker of the previous release
    assert seen(service).quality == "uncalibrated"


def test_a_row_that_an_earlier_release_judged_is_uncalibrated_and_keeps_its_strength(
    service: Service,
) -> None:
    serve(service)
    claimed = claim(service, submit(service))
    made = trained(service, claimed, proof=None)
    assert leases.finish_training(service, claimed, trained=made)

    def as_before(connection: Any, now: object) -> None:
        with Session(connection) as session:
            row = session.query(ConceptRow).one()
            row.judgement = {
                "quality": "good", "reasons": ["It looks like it."], "recommended_strength": 0.6,
            }  # fmt: skip
            session.flush()

    service.database.run(as_before)
    view = concepts.get(service, OWNER, ref="teddy")
    assert view.verdict is not None
    assert (view.verdict.quality, view.recommended_strength) == ("uncalibrated", 0.6)
    assert "earlier release" in view.verdict.reasons[0]
    assert "teach it again" in view.verdict.reasons[0]
    assert curves.get(service, OWNER, ref="teddy").verdict.quality == "uncalibrated"


def test_a_file_of_an_earlier_release_is_imported_without_a_verdict_of_this_one(
    service: Service,
) -> None:
    register_base_model(service)
    data = core_concept(evaluation=evaluation(proof=None)).to_bytes()
    imports.import_file(service, OWNER, data=data)
    assert seen(service).quality == "uncalibrated"


def test_a_row_holds_a_word_that_api_processes_of_the_release_before_know(
    service: Service,
) -> None:
    for name, proof in (("judged", {}), ("old", {"proof": None})):
        claimed = claim(service, submit(service, name))
        made = trained(service, claimed, **proof)
        assert made.judgement is not None
        assert made.judgement["quality"] in ("good", "weak", "overfit")
        assert all(isinstance(reason, str) for reason in made.judgement["reasons"])
