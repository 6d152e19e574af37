"""The old file serves until a better one replaces it."""

from dataclasses import replace

import pytest

from perfusion_core.evaluation.record import EvaluatorRef
from service.blobs import keys
from service.concepts import files as concept_files
from service.concepts import trainings
from service.concepts import use_cases as concepts
from service.concepts.versions import Replace
from service.errors import Unavailable
from service.errors import problem as make_problem
from service.execution import leases, reconciler
from service.garbage import collection
from service.jobs import use_cases as jobs
from service.jobs.views import NamedConcept
from service.statuses import ConceptStatus, JobStatus, Queue
from service.wiring import Service
from tests.unit.service.concepts.trainings.retraining import (
    BETTER,
    NEW_SHA256,
    OLD_SHA256,
    OVERFIT,
    WEAK,
    WEAKER,
    WORSE,
    again,
    first,
    result,
    retrain,
    revert,
    teddy,
)
from tests.unit.service.staging import (
    CALIBRATION,
    OWNER,
    Clock,
    LosingDatabase,
    RecordedNotifier,
    blob_keys,
    claim,
    core_concept,
    evaluation,
    ready,
)


def test_a_ready_concept_stays_as_it_is_until_the_new_file_replaces_it(
    service: Service, notifier: RecordedNotifier
) -> None:
    old_job = ready(service)
    before = teddy(service)
    answer = trainings.train_again(
        service, OWNER, ref="teddy", training={"max_train_steps": 7, "seed": 3}
    )
    job_id = answer.body["job"]["id"]
    assert answer.location == f"/jobs/{job_id}"
    assert answer.body["job"]["progress"]["total_steps"] == 7
    assert answer.body["job"]["concept_id"] == before.id
    assert notifier.notified[-1] == (job_id, Queue.TRAIN)
    claimed = claim(service, job_id)
    assert claimed.payload["training"] == {"max_train_steps": 7, "seed": 3}
    assert [picture["blob_key"] for picture in claimed.payload["pictures"]] == [
        keys.picture_key(before.id, 0)
    ]
    assert teddy(service) == before
    assert concepts.read_file(service, OWNER, ref="teddy").sha256 == OLD_SHA256
    assert leases.finish_training(service, claimed, trained=result(service, claimed, **BETTER))
    after = teddy(service)
    assert (after.id, after.status, after.created_at) == (
        before.id,
        ConceptStatus.READY,
        before.created_at,
    )
    assert (before.revision, after.revision) == (1, 2)
    assert (before.job_id, after.job_id) == (old_job, job_id)
    assert (after.sha256, after.has_file_before) == (NEW_SHA256, True)
    assert concepts.read_file(service, OWNER, ref="teddy").data == service.blobs.get(
        f"jobs/{job_id}/1/concept.safetensors"
    )
    assert service.blobs.get(f"jobs/{old_job}/1/concept.safetensors")


@pytest.mark.parametrize(
    ("old", "new", "option", "replaced"),
    [
        (WORSE, BETTER, "if-better", True),
        (BETTER, WORSE, "if-better", False),
        (BETTER, BETTER, "if-better", False),  # equal is not better
        (BETTER, WORSE, "always", True),
        (WEAK, WORSE, "if-better", True),  # good replaces weak
        (OVERFIT, WORSE, "if-better", True),
        (WORSE, OVERFIT, "if-better", False),
        (WEAKER, WEAK, "if-better", True),
        (WEAK, WEAKER, "if-better", False),
        ({"judged": False}, WEAKER, "if-better", True),
        (BETTER, {"judged": False}, "if-better", True),
    ],
)
def test_the_better_one_replaces_the_other(
    service: Service,
    old: dict[str, object],
    new: dict[str, object],
    option: Replace,
    replaced: bool,
) -> None:
    first(service, **old)
    before = teddy(service)
    job = jobs.get(service, OWNER, job_id=retrain(service, replace=option, **new).id)
    assert job.status is JobStatus.SUCCEEDED
    after = teddy(service)
    if replaced:
        assert (after.sha256, after.revision, job.warnings) == (NEW_SHA256, 2, ())
    else:
        assert after == before
        [warning] = job.warnings
        assert warning.type == "/problems/kept-previous"
        assert warning.concepts == (NamedConcept(id=before.id, name="teddy"),)
        assert not service_holds(service, job.id)


def service_holds(service: Service, job_id: str) -> set[str]:
    return {key for key in blob_keys(service) if key.startswith(keys.job_prefix(job_id))}


@pytest.mark.parametrize("changed", ["base_model_fingerprint", "covariance_fingerprint"])
def test_a_file_that_is_not_usable_here_is_replaced_by_any_that_is(
    service: Service, changed: str
) -> None:
    first(service, **BETTER)
    claimed = claim(service, again(service))
    made = replace(result(service, claimed, **WEAKER), **{changed: "another"})
    assert leases.finish_training(service, claimed, trained=made)
    assert teddy(service).sha256 == NEW_SHA256


@pytest.mark.parametrize("measured", ["by another evaluator", "in another way"])
@pytest.mark.parametrize(("old", "replaced"), [(WEAK, True), (BETTER, False)])
def test_balances_that_were_not_measured_alike_do_not_compare(
    service: Service, measured: str, old: dict[str, object], replaced: bool
) -> None:
    first(service, **old)
    claimed = claim(service, again(service))
    found = evaluation(**WEAKER)
    assert found.curve is not None and found.curve.proof is not None
    if measured == "by another evaluator":
        found = replace(found, evaluator=EvaluatorRef("another", "f" * 32))
    else:
        proof = replace(found.curve.proof, judging="judging-2")
        found = replace(found, curve=replace(found.curve, proof=proof))
    standing = concept_files.standing_of(core_concept(evaluation=found), CALIBRATION)
    made = replace(result(service, claimed), standing=standing)
    assert leases.finish_training(service, claimed, trained=made)
    assert (teddy(service).sha256 == NEW_SHA256) == replaced  # good replaces any weak concept


def test_a_file_that_is_gone_is_replaced_by_any_other(service: Service) -> None:
    old_job = first(service, **BETTER)
    service.blobs.delete(f"jobs/{old_job}/1/concept.safetensors")
    retrain(service, **WEAKER)
    assert teddy(service).sha256 == NEW_SHA256


@pytest.mark.parametrize("end", ["failed", "cancelled", "worker lost"])
def test_a_second_training_that_ends_without_a_result_changes_nothing(
    service: Service, clock: Clock, end: str
) -> None:
    first(service)
    before, held = teddy(service), blob_keys(service)
    claimed = claim(service, again(service, training={"seed": 9}))
    result(service, claimed)
    if end == "failed":
        assert leases.fail(service, claimed, problem=make_problem("internal", "It broke."))
    elif end == "cancelled":
        jobs.cancel(service, OWNER, job_id=claimed.id)
        assert not leases.finish_training(service, claimed, trained=result(service, claimed))
        assert leases.cancelled(service, claimed)
    else:
        for _ in range(service.settings.max_attempts - 1):
            clock.tick(service.settings.lease_seconds + 1)
            reconciler.reconcile(service)
            claim(service, claimed.id)
        clock.tick(service.settings.lease_seconds + 1)
        reconciler.reconcile(service)
    assert jobs.get(service, OWNER, job_id=claimed.id).finished
    assert teddy(service) == before
    assert blob_keys(service) == held
    again(service)  # another training may be requested


def test_a_worker_that_lost_the_lease_replaces_nothing(service: Service, clock: Clock) -> None:
    first(service, **WORSE)
    before = teddy(service)
    slow = claim(service, again(service))
    clock.tick(service.settings.lease_seconds + 1)
    reconciler.reconcile(service)
    heir = claim(service, slow.id, "worker-2")
    assert not leases.finish_training(service, slow, trained=result(service, slow, **BETTER))
    assert teddy(service) == before
    made = result(service, heir, **BETTER)
    assert leases.finish_training(service, heir, trained=made)
    assert not leases.finish_training(service, slow, trained=result(service, slow, **BETTER))
    assert (teddy(service).revision, teddy(service).sha256) == (2, NEW_SHA256)


def test_a_replacement_whose_answer_was_lost_happens_once(service: Service) -> None:
    first(service, **WORSE)
    losing = replace(service, database=LosingDatabase(service.database))
    claimed = claim(service, again(service))
    made = result(service, claimed, **BETTER)
    with pytest.raises(Unavailable):
        leases.finish_training(losing, claimed, trained=made)
    assert leases.finish_training(service, claimed, trained=made)
    assert teddy(service).revision == 2
    assert revert(service).sha256 == OLD_SHA256


def test_a_file_that_is_kept_stays_after_a_lost_answer_and_the_other_is_collected(
    service: Service, clock: Clock
) -> None:
    first(service, **BETTER)
    losing = replace(service, database=LosingDatabase(service.database))
    claimed = claim(service, again(service))
    made = result(service, claimed, **WORSE)
    with pytest.raises(Unavailable):
        leases.finish_training(losing, claimed, trained=made)
    assert leases.finish_training(service, claimed, trained=made)
    assert teddy(service).sha256 == OLD_SHA256
    clock.tick(7200)
    assert collection.collect(service) == 1
    assert concepts.read_file(service, OWNER, ref="teddy").data
