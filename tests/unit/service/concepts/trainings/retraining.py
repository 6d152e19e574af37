"""The steps of a second training: train teddy, train it again, revert."""

from dataclasses import replace

from perfusion_core.evaluation.curve import Point, Similarity
from service.concepts import trainings, versions
from service.concepts import use_cases as concepts
from service.concepts.versions import Replace
from service.concepts.views import ConceptView
from service.execution import leases
from service.idempotency import Idempotency
from service.jobs.lease_types import ClaimedJob, TrainedConcept
from service.wiring import Service
from tests.unit.service.staging import OWNER, claim, submit, trained

OLD_SHA256, NEW_SHA256 = "5" * 64, "8" * 64


def points(image: float, text: float) -> tuple[Point, ...]:
    """Return one similarity at each strength; the superclass has 0.35 and 0.3, the ceiling 0.75."""
    return tuple(Point(strength, Similarity(image, text)) for strength in (0.2, 0.6, 0.9))


BETTER, WORSE = {"points": points(0.74, 0.29)}, {"points": points(0.66, 0.28)}
WEAK, WEAKER = {"points": points(0.45, 0.3)}, {"points": points(0.4, 0.3)}
OVERFIT = {"points": points(0.75, 0.14)}


def again(service: Service, ref: str = "teddy", **options: object) -> str:
    """Ask for another training; return the id of its job."""
    training = options.pop("training", {})
    answer = trainings.train_again(service, OWNER, ref=ref, training=training, **options)  # type: ignore[arg-type]
    return str(answer.body["job"]["id"])


def result(service: Service, claimed: ClaimedJob, **curve: object) -> TrainedConcept:
    return replace(trained(service, claimed, **curve), sha256=NEW_SHA256)  # type: ignore[arg-type]


def retrain(service: Service, *, replace: Replace = "if-better", **curve: object) -> ClaimedJob:
    """Train teddy again and finish the training."""
    claimed = claim(service, again(service, replace=replace))
    assert leases.finish_training(service, claimed, trained=result(service, claimed, **curve))
    return claimed


def teddy(service: Service) -> ConceptView:
    return concepts.get(service, OWNER, ref="teddy")


def first(service: Service, **curve: object) -> str:
    """Train teddy for the first time; return the id of its job."""
    claimed = claim(service, submit(service))
    assert leases.finish_training(service, claimed, trained=trained(service, claimed, **curve))  # type: ignore[arg-type]
    return claimed.id


def revert(service: Service, *, key: str | None = None) -> ConceptView:
    idempotency = None if key is None else Idempotency(key)
    answer = versions.revert(service, OWNER, ref="teddy", idempotency=idempotency)
    view = teddy(service)
    assert answer.body["sha256"] == view.sha256
    return view
