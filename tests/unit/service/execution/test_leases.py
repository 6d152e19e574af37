"""A job has one claim at a time and one end; a worker that lost its lease can end nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from perfusion_core.concept import Concept
from service.blobs import keys
from service.concepts import use_cases as concepts
from service.database.tables import JobEventRow
from service.errors import problem
from service.execution import checkpoints, leases, reconciler
from service.execution.leases import Lease
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.jobs.views import JobView, JobWarning, ProgressView
from service.statuses import ConceptStatus, JobStatus
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    Clock,
    blob_keys,
    claim,
    generated,
    ready,
    submit,
    trained,
    try_to_claim,
)

PROBLEM = problem("training-diverged", "The loss stopped being finite. Lower learning_rate.")


def events(service: Service, job_id: str) -> list[tuple[str | None, str, int, str]]:
    with service.database.read() as session:
        rows = session.scalars(
            select(JobEventRow).where(JobEventRow.job_id == job_id).order_by(JobEventRow.id)
        )
        return [(row.from_status, row.to_status, row.attempt, row.reason) for row in rows]


def test_a_job_is_claimed_once_however_often_it_is_notified(service: Service) -> None:
    job_id = submit(service)
    with ThreadPoolExecutor(8) as pool:
        claims = list(
            pool.map(lambda n: try_to_claim(service, job_id, worker_id=f"w{n}"), range(16))
        )
    won = [claimed for claimed in claims if claimed is not None]
    assert len(won) == 1
    assert won[0].attempt == 1
    assert won[0].payload["name"] == "teddy"
    assert jobs.get(service, OWNER, job_id=job_id).status is JobStatus.RUNNING
    assert try_to_claim(service, "job_unknown", worker_id="w") is None


def test_a_finished_training_makes_its_concept_ready_in_the_same_moment(service: Service) -> None:
    claimed = claim(service, submit(service))
    checkpoints.save_state(service, claimed, state=b"state", step=1)
    service.blobs.put(keys.previous_state_key(claimed.id), b"state")
    assert leases.finish_training(service, claimed, trained=trained(service, claimed))
    job = jobs.get(service, OWNER, job_id=claimed.id)
    concept = concepts.get(service, OWNER, ref="teddy")
    assert (job.status, concept.status) == (JobStatus.SUCCEEDED, ConceptStatus.READY)
    assert job.progress.step == job.progress.total_steps
    assert concept.ready_at == job.finished_at
    assert concept.base_model is not None
    assert concept.base_model.fingerprint == "base-1"
    assert not [key for key in blob_keys(service) if "state" in key]
    file = concepts.read_file(service, OWNER, ref="teddy")
    assert Concept.from_bytes(file.data).name == file.name == "teddy"


def test_warnings_show_while_the_job_runs_and_stay_and_only_its_worker_gives_them(
    service: Service, clock: Clock
) -> None:
    warning = {**problem("concepts-may-blend", "They are close."), "concepts": []}

    def told() -> JobView:
        return jobs.get(service, OWNER, job_id=zombie.id)

    body = GenerateRequest(prompt="a boat")
    job_id = generations.request(service, OWNER, body=body).body["job"]["id"]
    zombie = claim(service, job_id)
    before = told()
    assert before.warnings == ()
    assert leases.warn(service, zombie, warnings=[warning])
    assert told().warnings == (JobWarning(**warning),)
    assert told().version > before.version  # followers of the job receive the change
    clock.tick(31)
    reconciler.reconcile(service)
    heir = claim(service, zombie.id, "worker-2")
    assert not leases.warn(service, zombie, warnings=[])
    assert leases.warn(service, heir, warnings=[warning, warning])
    assert leases.finish_generation(service, heir, images=generated(service, heir))
    assert not leases.warn(service, heir, warnings=[])
    assert told().warnings == (JobWarning(**warning),) * 2


def test_a_worker_that_lost_its_lease_can_end_nothing(service: Service, clock: Clock) -> None:
    zombie = claim(service, submit(service))
    clock.tick(31)
    assert reconciler.reconcile(service).requeued == 1
    heir = claim(service, zombie.id, "worker-2")
    assert heir.attempt == 2
    assert leases.heartbeat(service, zombie).lease is Lease.LOST
    assert not leases.finish_training(service, zombie, trained=trained(service, zombie))
    assert not leases.fail(service, zombie, problem=PROBLEM)
    assert not leases.cancelled(service, zombie)
    assert not leases.release(service, zombie, delay_seconds=0, spend_attempt=True)
    assert leases.heartbeat(service, heir).lease is Lease.KEPT
    assert leases.finish_training(service, heir, trained=trained(service, heir))
    file = concepts.read_file(service, OWNER, ref="teddy")
    assert file.data == service.blobs.get(f"jobs/{heir.id}/2/concept.safetensors")


def test_a_heartbeat_keeps_the_lease_and_reports_progress(service: Service, clock: Clock) -> None:
    claimed = claim(service, submit(service))
    versions = [jobs.get(service, OWNER, job_id=claimed.id).version]
    for step in range(1, 4):
        clock.tick(25)
        progress = ProgressView(step=step, total_steps=10, seconds_per_step=2.0)
        assert leases.heartbeat(service, claimed, progress=progress).lease is Lease.KEPT
        assert reconciler.reconcile(service).requeued == 0
        view = jobs.get(service, OWNER, job_id=claimed.id)
        versions.append(view.version)
        assert view.progress == ProgressView(
            step=step, total_steps=10, seconds_per_step=2.0, eta_seconds=2.0 * (10 - step)
        )
    assert versions == sorted(set(versions))


def test_a_heartbeat_without_news_makes_no_event(service: Service) -> None:
    claimed = claim(service, submit(service))
    before = jobs.get(service, OWNER, job_id=claimed.id).version
    leases.heartbeat(service, claimed)
    assert jobs.get(service, OWNER, job_id=claimed.id).version == before


def test_an_end_may_be_sent_twice_after_a_lost_answer(service: Service) -> None:
    claimed = claim(service, submit(service))
    result = trained(service, claimed)
    assert leases.finish_training(service, claimed, trained=result)
    assert leases.finish_training(service, claimed, trained=result)
    # A worker that never learned of its success gives the job up. Nothing changes, and nothing that
    # it wrote may be deleted.
    assert leases.fail(service, claimed, problem=PROBLEM)
    assert leases.release(service, claimed, delay_seconds=5, spend_attempt=False)
    assert [event[1] for event in events(service, claimed.id)] == ["queued", "running", "succeeded"]
    other = claim(service, submit(service, "other"))
    assert leases.fail(service, other, problem=PROBLEM)
    assert leases.fail(service, other, problem=PROBLEM)
    assert not leases.finish_training(service, other, trained=trained(service, other))
    assert [event[1] for event in events(service, other.id)] == ["queued", "running", "failed"]


def test_a_failed_job_keeps_its_problem_and_its_concept_says_failed(service: Service) -> None:
    claimed = claim(service, submit(service))
    checkpoints.save_state(service, claimed, state=b"state", step=1)
    assert leases.fail(service, claimed, problem=PROBLEM)
    job = jobs.get(service, OWNER, job_id=claimed.id)
    assert job.status is JobStatus.FAILED
    assert job.error.to_json() == {
        "type": "/problems/training-diverged",
        "title": "Training diverged",
        "detail": PROBLEM["detail"],
    }
    assert concepts.get(service, OWNER, ref="teddy").status is ConceptStatus.FAILED
    assert not any(key.startswith("jobs/") for key in blob_keys(service))


def test_cancelling_wins_over_finishing_and_over_failing(service: Service) -> None:
    for name, end in (("finishing", "finish"), ("failing", "fail"), ("stopping", "cancelled")):
        claimed = claim(service, submit(service, name))
        jobs.cancel(service, OWNER, job_id=claimed.id)
        assert leases.heartbeat(service, claimed).lease is Lease.CANCEL_REQUESTED
        if end == "finish":
            assert not leases.finish_training(service, claimed, trained=trained(service, claimed))
            assert leases.cancelled(service, claimed)
        elif end == "fail":
            assert leases.fail(service, claimed, problem=PROBLEM)
        else:
            assert leases.cancelled(service, claimed)
        view = jobs.get(service, OWNER, job_id=claimed.id)
        assert (view.status, view.error) == (JobStatus.CANCELLED, None)
        assert concepts.get(service, OWNER, ref=name).status is ConceptStatus.CANCELLED


def test_a_worker_cannot_cancel_by_itself(service: Service) -> None:
    claimed = claim(service, submit(service))
    assert leases.cancelled(service, claimed)
    assert jobs.get(service, OWNER, job_id=claimed.id).status is JobStatus.QUEUED


def test_a_generation_keeps_its_images_in_order(service: Service) -> None:
    ready(service)
    body = GenerateRequest(prompt="a <teddy> at sea", num_images=3, seed=7)
    job_id = generations.request(service, OWNER, body=body).body["job"]["id"]
    claimed = claim(service, job_id)
    assert leases.finish_generation(service, claimed, images=generated(service, claimed)[::-1])
    view = jobs.get(service, OWNER, job_id=job_id)
    assert [image.seed for image in view.images] == [7, 8, 9]
    assert view.images[0].url == f"/images/{view.images[0].id}"
    data = jobs.read_image(service, OWNER, image_id=view.images[1].id).data
    assert data == service.blobs.get(f"jobs/{job_id}/1/1.png")


def test_what_lost_attempts_wrote_goes_with_the_success_of_a_later_one(
    service: Service, clock: Clock
) -> None:
    ready(service)
    body = GenerateRequest(prompt="a <teddy> at sea", num_images=3, attention_maps=True)
    generation = claim(service, generations.request(service, OWNER, body=body).body["job"]["id"])
    generated(service, generation)
    training = claim(service, submit(service, "rex"))
    trained(service, training)
    assert checkpoints.save_preview(service, training, png=b"a preview")
    assert checkpoints.save_state(service, training, state=b"a state", step=3)
    clock.tick(31)
    assert reconciler.reconcile(service).requeued == 2
    generation, training = claim(service, generation.id), claim(service, training.id)
    assert leases.finish_generation(service, generation, images=generated(service, generation))
    assert leases.finish_training(service, training, trained=trained(service, training))
    assert {
        key for key in blob_keys(service) if key.startswith(f"jobs/{generation.id}/1/")
    } == set()
    assert len(jobs.get(service, OWNER, job_id=generation.id).images) == 3
    assert {key for key in blob_keys(service) if key.startswith(f"jobs/{training.id}/")} == {
        f"jobs/{training.id}/2/concept.safetensors",
        f"jobs/{training.id}/preview.png",
    }


def test_every_change_of_status_is_audited(service: Service, clock: Clock) -> None:
    claimed = claim(service, submit(service))
    clock.tick(31)
    reconciler.reconcile(service)
    again = claim(service, claimed.id)
    leases.finish_training(service, again, trained=trained(service, again))
    assert events(service, claimed.id) == [
        (None, "queued", 0, "accepted"),
        ("queued", "running", 1, "claimed"),
        ("running", "queued", 1, "lease_expired"),
        ("queued", "running", 2, "claimed"),
        ("running", "succeeded", 2, "succeeded"),
    ]


@pytest.mark.parametrize("workers", [8])
def test_many_workers_on_many_jobs_give_every_job_one_result(
    make_service: Callable[..., Service], workers: int
) -> None:
    service = make_service()
    job_ids = [submit(service, f"concept-{n}") for n in range(6)]

    def work(worker: int) -> list[bool]:
        ends = []
        for job_id in job_ids:
            claimed = try_to_claim(service, job_id, worker_id=f"w{worker}")
            if claimed is not None:
                leases.heartbeat(service, claimed)
                result = trained(service, claimed)
                ends.append(leases.finish_training(service, claimed, trained=result))
        return ends

    with ThreadPoolExecutor(workers) as pool:
        ends = [end for ends in pool.map(work, range(workers)) for end in ends]
    assert ends == [True] * len(job_ids)
