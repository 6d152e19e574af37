"""If the answer to a commit is lost, the blobs that the commit named stay."""

from dataclasses import replace

import pytest

from service.blobs import keys
from service.concepts import imports
from service.concepts import use_cases as concepts
from service.concepts.use_cases import create
from service.errors import Unavailable
from service.errors import problem as make_problem
from service.execution import checkpoints, leases
from service.idempotency import Idempotency
from service.jobs import use_cases as jobs
from service.statuses import JobStatus
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    LosingDatabase,
    blob_keys,
    claim,
    core_concept,
    register_base_model,
    submit,
    trained,
    uploaded,
)


@pytest.fixture
def losing(service: Service) -> Service:
    return replace(service, database=LosingDatabase(service.database))


def test_the_pictures_of_a_concept_that_was_accepted_stay(
    service: Service, losing: Service
) -> None:
    request = {
        "name": "teddy",
        "superclass": "bear",
        "pictures": uploaded(),
        "training": {},
        "idempotency": Idempotency("once"),
    }
    with pytest.raises(Unavailable):
        create(losing, OWNER, **request)  # type: ignore[arg-type]
    answer = create(service, OWNER, **request)  # type: ignore[arg-type]
    assert answer.replayed
    concept_id = answer.body["concept"]["id"]
    assert blob_keys(service) == {keys.picture_key(concept_id, 0)}


def test_the_file_of_a_concept_that_was_imported_stays(service: Service, losing: Service) -> None:
    register_base_model(service)
    with pytest.raises(Unavailable):
        imports.import_file(losing, OWNER, data=core_concept().to_bytes())
    assert concepts.read_file(service, OWNER, ref="teddy").data


def test_the_result_of_a_job_that_succeeded_stays_when_its_worker_gives_it_up(
    service: Service, losing: Service
) -> None:
    claimed = claim(service, submit(service))
    result = trained(service, claimed)
    with pytest.raises(Unavailable):
        leases.finish_training(losing, claimed, trained=result)
    # True: the job has succeeded, so nothing that it wrote may be deleted.
    assert leases.release(service, claimed, delay_seconds=5, spend_attempt=False)
    assert leases.finish_training(service, claimed, trained=result)
    assert jobs.get(service, OWNER, job_id=claimed.id).status is JobStatus.SUCCEEDED
    assert concepts.read_file(service, OWNER, ref="teddy").data


def test_what_a_failed_job_wrote_is_deleted_once_its_end_is_confirmed(
    service: Service, losing: Service
) -> None:
    claimed = claim(service, submit(service))
    checkpoints.save_state(service, claimed, state=b"state", step=1)
    problem = make_problem("internal", "It broke.")
    with pytest.raises(Unavailable):
        leases.fail(losing, claimed, problem=problem)
    assert leases.fail(service, claimed, problem=problem)
    assert not [key for key in blob_keys(service) if key.startswith(keys.job_prefix(claimed.id))]


def test_an_end_whose_answer_was_lost_may_be_sent_again(service: Service, losing: Service) -> None:
    claimed = claim(service, submit(service))
    with pytest.raises(Unavailable):
        leases.release(losing, claimed, delay_seconds=0, spend_attempt=False)
    # The job is queued already, so this claim has nothing left to release.
    assert not leases.release(service, claimed, delay_seconds=0, spend_attempt=False)
    assert jobs.get(service, OWNER, job_id=claimed.id).status is JobStatus.QUEUED
