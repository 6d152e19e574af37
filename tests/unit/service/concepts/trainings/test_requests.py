"""A second training is accepted for a concept with pictures that is not in training."""

from collections.abc import Callable

import pytest
from sqlalchemy import select

from service.concepts import imports, trainings, versions
from service.concepts import use_cases as concepts
from service.database.tables import ConceptRow, JobRow
from service.errors import Conflict, Invalid, NotFound
from service.errors import problem as make_problem
from service.execution import leases
from service.idempotency import Idempotency
from service.jobs import transitions
from service.jobs import use_cases as jobs
from service.statuses import ConceptStatus, JobStatus
from service.wiring import Service
from tests.unit.service.concepts.trainings.retraining import (
    BETTER,
    again,
    first,
    retrain,
    revert,
    teddy,
)
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    RecordedNotifier,
    at_once,
    claim,
    core_concept,
    submit,
    trained,
)


@pytest.mark.parametrize("started", [False, True])
def test_a_concept_in_training_is_not_trained_twice_at_once_nor_reverted(
    service: Service, started: bool
) -> None:
    def refused(act: Callable[[], object]) -> None:
        with pytest.raises(Conflict) as caught:
            act()
        assert caught.value.slug == "concept-in-training"

    claimed = claim(service, submit(service))
    refused(lambda: again(service))
    assert leases.finish_training(service, claimed, trained=trained(service, claimed))
    retrain(service, **BETTER)
    job_id = again(service)
    if started:
        claim(service, job_id)
    refused(lambda: again(service))
    refused(lambda: revert(service))
    assert teddy(service).revision == 2


def test_two_requests_at_once_begin_one_training(service: Service) -> None:
    first(service)
    accepted: list[str] = []

    def ask() -> None:
        try:
            accepted.append(again(service))
        except Conflict as error:
            assert error.slug == "concept-in-training"

    at_once([ask, ask])
    assert len(accepted) == 1


def test_the_same_request_under_one_key_begins_one_training(
    service: Service, notifier: RecordedNotifier
) -> None:
    first(service)
    notified = len(notifier.notified)
    answers = [
        trainings.train_again(
            service, OWNER, ref="teddy", training={}, idempotency=Idempotency("once")
        )
        for _ in range(2)
    ]
    assert [answer.replayed for answer in answers] == [False, True]
    assert answers[0].body == answers[1].body
    assert len(notifier.notified) == notified + 1
    with pytest.raises(Invalid):
        trainings.train_again(
            service, OWNER, ref="teddy", training={"seed": 1}, idempotency=Idempotency("once")
        )


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_concept_that_never_became_ready_is_trained_as_if_for_the_first_time(
    service: Service, end: str
) -> None:
    job_id = submit(service)
    if end == "failed":
        lost = claim(service, job_id)
        assert leases.fail(service, lost, problem=make_problem("internal", "It broke."))
    else:
        jobs.cancel(service, OWNER, job_id=job_id)
    assert teddy(service).status.value == end
    new_job = again(service, training={"max_train_steps": 9})
    during = teddy(service)
    assert (during.status, during.job_id) == (ConceptStatus.TRAINING, new_job)
    assert during.training["max_train_steps"] == 9
    claimed = claim(service, new_job)
    assert leases.finish_training(service, claimed, trained=trained(service, claimed))
    after = teddy(service)
    assert (after.status, after.revision, after.has_file_before) == (ConceptStatus.READY, 1, False)


def test_a_first_training_that_fails_the_second_time_says_so(service: Service) -> None:
    jobs.cancel(service, OWNER, job_id=submit(service))
    claimed = claim(service, again(service))
    assert leases.fail(service, claimed, problem=make_problem("internal", "It broke."))
    view = teddy(service)
    assert (view.status, view.job_id) == (ConceptStatus.FAILED, claimed.id)


def test_an_imported_concept_has_no_pictures_to_train_on(service: Service) -> None:
    imports.import_file(service, OWNER, data=core_concept().to_bytes())
    with pytest.raises(Conflict) as caught:
        again(service)
    assert caught.value.slug == "no-pictures"


def test_what_another_owner_has_is_neither_trained_nor_reverted(service: Service) -> None:
    first(service)
    retrain(service, **BETTER)
    before = teddy(service)
    for ref in ("teddy", before.id):
        with pytest.raises(NotFound):
            trainings.train_again(service, STRANGER, ref=ref, training={"seed": -1})
        with pytest.raises(NotFound):
            versions.revert(service, STRANGER, ref=ref)
    assert teddy(service) == before


def test_options_are_checked_as_for_a_first_training(service: Service) -> None:
    first(service)
    for training in ({"max_train_steps": 0}, {"unknown": 1}):
        with pytest.raises(Invalid) as caught:
            again(service, training=training)
        assert [error.pointer for error in caught.value.errors] == [f"/{next(iter(training))}"]


def test_a_training_accepted_in_the_middle_of_a_deletion_is_cancelled(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    first(service)
    accepted: list[str] = []
    original = transitions.request_cancel

    def cancel_and_accept(session: object, **options: object) -> list[JobRow]:
        ended = original(session, **options)  # type: ignore[arg-type]
        if not accepted:
            # Another transaction does this right after the deletion has looked for jobs to cancel.
            concept = session.scalar(select(ConceptRow))  # type: ignore[attr-defined]
            planned = trainings.plan(service, {}, pointer="")
            trainings.queue(
                session.connection(),  # type: ignore[attr-defined]
                service,
                concept=concept,
                pictures=[],
                job_id="job_late",
                plan=planned,
                replace="always",
                webhook=None,
                now=service.database.now(session),  # type: ignore[arg-type]
            )
            accepted.append("job_late")
        return ended

    monkeypatch.setattr(transitions, "request_cancel", cancel_and_accept)
    concepts.delete(service, OWNER, ref="teddy")
    assert jobs.get(service, OWNER, job_id="job_late").status is JobStatus.CANCELLED
