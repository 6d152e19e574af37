"""A second training: the old file serves until a better one replaces it, and is kept after."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from perfusion_core.evaluation.curve import Point, Similarity
from perfusion_core.evaluation.record import EvaluatorRef
from service import deployment, quota
from service.blobs import keys
from service.concepts import files as concept_files
from service.concepts import rows, trainings, versions
from service.concepts import use_cases as concepts
from service.concepts.versions import Replace
from service.concepts.views import ConceptView
from service.database.tables import ConceptRow, JobRow
from service.errors import Conflict, Invalid, NotFound, Unavailable
from service.errors import problem as make_problem
from service.execution import leases, reconciler
from service.garbage import collection, retention
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.idempotency import Idempotency
from service.jobs import transitions
from service.jobs import use_cases as jobs
from service.jobs.lease_types import ClaimedJob, TrainedConcept
from service.jobs.views import NamedConcept
from service.statuses import ConceptStatus, JobKind, JobStatus
from service.wiring import Service
from tests.unit.service.staging import (
    CALIBRATION,
    OWNER,
    STRANGER,
    Clock,
    Deaf,
    RecordedNotifier,
    at_once,
    blob_keys,
    claim,
    core_concept,
    evaluation,
    ready,
    register_base_model,
    submit,
    trained,
)

DAY_SECONDS = 24 * 3600
OLD_SHA256, NEW_SHA256 = "5" * 64, "8" * 64


@pytest.fixture
def service(make_service: Callable[..., Service], clock: Clock) -> Service:
    # Blobs carry the machine's time: the service's must not lie behind it.
    clock.now = datetime.now(UTC) + timedelta(minutes=5)
    service = make_service()
    deployment.check(service)
    register_base_model(service)
    return service


def points(image: float, text: float) -> tuple[Point, ...]:
    """The same at every strength; the superclass has 0.35 and 0.3, the ceiling is 0.75."""
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
    """Train teddy again, to the end."""
    claimed = claim(service, again(service, replace=replace))
    assert leases.finish_training(service, claimed, trained=result(service, claimed, **curve))
    return claimed


def teddy(service: Service) -> ConceptView:
    return concepts.get(service, OWNER, ref="teddy")


def first(service: Service, **curve: object) -> str:
    """Teach teddy; return the id of its job."""
    claimed = claim(service, submit(service))
    assert leases.finish_training(service, claimed, trained=trained(service, claimed, **curve))  # type: ignore[arg-type]
    return claimed.id


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
    assert notifier.notified[-1] == (job_id, JobKind.TRAIN)
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
        (BETTER, BETTER, "if-better", False),  # no better
        (BETTER, WORSE, "always", True),
        (WEAK, WORSE, "if-better", True),  # good above weak
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
    assert (teddy(service).sha256 == NEW_SHA256) == replaced  # good stands above all others


def test_a_file_that_is_gone_stands_in_nobodys_way(service: Service) -> None:
    old_job = first(service, **BETTER)
    service.blobs.delete(f"jobs/{old_job}/1/concept.safetensors")
    retrain(service, **WEAKER)
    assert teddy(service).sha256 == NEW_SHA256


def revert(service: Service, *, key: str | None = None) -> ConceptView:
    idempotency = None if key is None else Idempotency(key)
    answer = versions.revert(service, OWNER, ref="teddy", idempotency=idempotency)
    view = teddy(service)
    assert answer.body["sha256"] == view.sha256
    return view


def test_a_revert_brings_back_all_that_the_row_said_and_a_second_one_returns(
    service: Service,
) -> None:
    first(service, **WORSE)
    before = teddy(service)
    data = concepts.read_file(service, OWNER, ref="teddy").data
    retrain(service, **BETTER)
    after = teddy(service)
    reverted = revert(service)
    assert reverted.model_copy(update={"revision": 1, "has_file_before": False}) == before
    assert (reverted.revision, reverted.has_file_before) == (3, True)
    assert concepts.read_file(service, OWNER, ref="teddy").data == data
    assert revert(service).model_copy(update={"revision": 2}) == after
    assert teddy(service).revision == 4


def test_a_revert_that_is_sent_twice_under_one_key_reverts_once(service: Service) -> None:
    first(service)
    retrain(service, **BETTER)
    assert revert(service, key="once").sha256 == OLD_SHA256
    answer = versions.revert(service, OWNER, ref="teddy", idempotency=Idempotency("once"))
    assert answer.replayed
    assert teddy(service).sha256 == OLD_SHA256


def test_without_a_file_before_there_is_nothing_to_revert_to(service: Service) -> None:
    first(service)
    with pytest.raises(Conflict) as caught:
        revert(service)
    assert caught.value.slug == "no-file-before"


def test_a_file_before_that_a_release_before_has_removed_is_not_gone_back_to(
    service: Service,
) -> None:
    old_job = first(service)
    retrain(service, **BETTER)
    service.blobs.delete(f"jobs/{old_job}/1/concept.safetensors")
    with pytest.raises(NotFound):
        revert(service)
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
    again(service)  # and it may be asked for once more


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
    deaf = replace(service, database=Deaf(service.database))
    claimed = claim(service, again(service))
    made = result(service, claimed, **BETTER)
    with pytest.raises(Unavailable):
        leases.finish_training(deaf, claimed, trained=made)
    assert leases.finish_training(service, claimed, trained=made)
    assert teddy(service).revision == 2
    assert revert(service).sha256 == OLD_SHA256


def test_a_file_that_was_kept_unheard_stays_and_the_other_is_collected(
    service: Service, clock: Clock
) -> None:
    first(service, **BETTER)
    deaf = replace(service, database=Deaf(service.database))
    claimed = claim(service, again(service))
    made = result(service, claimed, **WORSE)
    with pytest.raises(Unavailable):
        leases.finish_training(deaf, claimed, trained=made)
    assert leases.finish_training(service, claimed, trained=made)
    assert teddy(service).sha256 == OLD_SHA256
    clock.tick(7200)
    assert collection.collect(service) == 1
    assert concepts.read_file(service, OWNER, ref="teddy").data


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
    concepts.import_file(service, OWNER, data=core_concept().to_bytes())
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


def test_the_file_before_is_kept_by_the_collector_and_the_one_before_that_goes(
    service: Service, clock: Clock
) -> None:
    job_ids = [first(service, **WEAKER), retrain(service, **WEAK).id]
    clock.tick(7200)
    assert collection.collect(service) == 0
    revert(service)
    clock.tick(7200)
    assert collection.collect(service) == 0
    revert(service)
    job_ids.append(retrain(service, **BETTER).id)
    files = [f"jobs/{job_id}/1/concept.safetensors" for job_id in job_ids]
    assert blob_keys(service).intersection(files) == set(files[1:])
    assert collection.collect(service) == 0
    assert revert(service).job_id == job_ids[1]


def test_deleting_a_concept_removes_the_file_before_as_well(service: Service) -> None:
    first(service, **WORSE)
    retrain(service, **BETTER)
    claimed = retrain(service, **WORSE)  # kept as it was
    service.blobs.put(keys.last_preview_key(claimed.id), b"png")
    again(service)
    concepts.delete(service, OWNER, ref="teddy")
    assert not blob_keys(service)
    with service.database.read() as session:
        open_jobs = session.scalars(
            select(JobRow.id).where(JobRow.status == JobStatus.QUEUED)
        ).all()
    assert open_jobs == []


def test_a_training_accepted_in_the_middle_of_a_deletion_is_cancelled(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    first(service)
    accepted: list[str] = []
    original = transitions.request_cancel

    def cancel_and_accept(session: object, **options: object) -> list[JobRow]:
        ended = original(session, **options)  # type: ignore[arg-type]
        if not accepted:
            # As another transaction would, right after this one looked for jobs to cancel.
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
                now=service.database.now(session),  # type: ignore[arg-type]
            )
            accepted.append("job_late")
        return ended

    monkeypatch.setattr(transitions, "request_cancel", cancel_and_accept)
    concepts.delete(service, OWNER, ref="teddy")
    assert jobs.get(service, OWNER, job_id="job_late").status is JobStatus.CANCELLED


def test_the_job_of_the_file_before_outlives_the_time_that_jobs_are_kept(
    make_service: Callable[..., Service], clock: Clock
) -> None:
    service = make_service(keep_jobs_days=20)
    register_base_model(service)
    deployment.check(service)
    old_job = first(service, **WORSE)
    retrain(service, **BETTER)
    with service.database.write() as session:  # as if only the row of the concept still knew it
        session.get_one(JobRow, old_job).concept_id = None
    clock.tick(30 * DAY_SECONDS)
    assert retention.release(service) == (0, 0)
    assert revert(service).job_id == old_job


def test_the_file_before_counts_as_stored(service: Service) -> None:
    first(service, **WORSE)
    before = quota.stored_bytes(service, OWNER)
    retrain(service, **BETTER)
    new, old = teddy(service).bytes, revert(service).bytes
    assert new is not None and old is not None
    assert quota.stored_bytes(service, OWNER) == before + new


def test_a_request_that_waited_through_a_replacement_keeps_the_file_it_was_accepted_with(
    service: Service,
) -> None:
    def accepted() -> str:
        body = GenerateRequest(prompt="a photo of <teddy>")
        answer = generations.request(service, OWNER, body=body)
        claimed = claim(service, answer.body["job"]["id"])
        return str(claimed.payload["concepts"][0]["sha256"])

    def named() -> set[str]:
        concept_id = teddy(service).id
        return rows.named_hashes(service, [concept_id])[concept_id]

    first(service, **WORSE)
    old = accepted()
    retrain(service, **BETTER)
    new = accepted()
    assert (old, new) == (OLD_SHA256, NEW_SHA256)
    assert named() == {old, new}
    revert(service)
    assert named() == {old, new}
