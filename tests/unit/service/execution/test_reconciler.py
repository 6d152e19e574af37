"""Any number of reconcilers repair once what crashes and lost messages leave behind."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import event

from service.concepts import use_cases as concepts
from service.execution import leases, reconciler
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.statuses import ConceptStatus, JobStatus, Queue
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    Clock,
    RecordedNotifier,
    blob_keys,
    claim,
    generated,
    submit,
    try_to_claim,
)


def test_a_job_whose_worker_fell_silent_waits_again(service: Service, clock: Clock) -> None:
    claimed = claim(service, submit(service))
    clock.tick(29)
    assert reconciler.reconcile(service).requeued == 0
    clock.tick(2)
    assert reconciler.reconcile(service) == reconciler.Reconciled(
        cancelled=0, requeued=1, failed=0, notified=1
    )
    view = jobs.get(service, OWNER, job_id=claimed.id)
    assert (view.status, view.attempt, view.queue_position) == (JobStatus.QUEUED, 1, 1)


def test_a_pass_that_finds_nothing_to_do_writes_nothing(service: Service) -> None:
    claim(service, submit(service))
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(service.database.engine, "before_cursor_execute", note)
    reconciler.reconcile(service)
    assert {statement.split()[0] for statement in statements} <= {"BEGIN", "SELECT"}


def test_a_job_that_takes_its_worker_down_every_time_fails_in_the_end(
    service: Service, clock: Clock
) -> None:
    job_id = submit(service)
    for _ in range(3):
        claim(service, job_id)
        clock.tick(31)
        reconciler.reconcile(service)
    view = jobs.get(service, OWNER, job_id=job_id)
    assert (view.status, view.attempt) == (JobStatus.FAILED, 3)
    assert view.error is not None
    assert view.error.type == "/problems/worker-lost"
    assert concepts.get(service, OWNER, ref="teddy").status is ConceptStatus.FAILED
    assert try_to_claim(service, job_id, worker_id="w") is None


def test_a_cancelled_job_whose_worker_is_gone_ends_cancelled(
    service: Service, clock: Clock
) -> None:
    claimed = claim(service, submit(service))
    service.blobs.put(f"jobs/{claimed.id}/preview.png", b"preview")
    jobs.cancel(service, OWNER, job_id=claimed.id)
    assert reconciler.reconcile(service).cancelled == 0
    clock.tick(31)
    assert reconciler.reconcile(service).cancelled == 1
    assert jobs.get(service, OWNER, job_id=claimed.id).status is JobStatus.CANCELLED
    assert not any(key.startswith("jobs/") for key in blob_keys(service))
    assert not leases.cancelled(service, claimed)


def test_a_waiting_job_is_notified_again_with_growing_pauses(
    service: Service, clock: Clock, notifier: RecordedNotifier
) -> None:
    job_id = submit(service)
    assert notifier.notified == [(job_id, "train")]
    pauses, last = [], 0
    for second in range(1, 82):
        clock.tick(1)
        if reconciler.reconcile(service).notified:
            pauses.append(second - last)
            last = second
    assert pauses == [5, 5, 10, 20, 40]


def test_an_owner_at_the_running_limit_is_notified_as_soon_as_a_job_of_the_other_kind_ends(
    make_service: Callable[..., Service], clock: Clock
) -> None:
    service = make_service(max_running_jobs_per_owner=1)
    notifier = service.notifier
    assert isinstance(notifier, RecordedNotifier)
    body = GenerateRequest(prompt="a boat")
    runs = claim(service, generations.request(service, OWNER, body=body).body["job"]["id"])
    waits, _ = submit(service, "waits"), submit(service, "behind")
    too = generations.request(service, OWNER, body=body).body["job"]["id"]
    for _ in range(10):  # it is notified every minute by now, and no worker may claim it
        clock.tick(20)
        assert leases.heartbeat(service, runs).lease is leases.Lease.KEPT
        reconciler.reconcile(service)
        assert leases.claim_next(service, Queue.TRAIN, worker_id="trainer") is None
    notifier.notified.clear()
    leases.finish_generation(service, runs, images=generated(service, runs))
    reconciler.reconcile(service)
    assert sorted(notifier.notified) == sorted([(waits, Queue.TRAIN), (too, Queue.GENERATE)])
    assert leases.claim_next(service, Queue.TRAIN, worker_id="trainer") is not None


def test_waiting_jobs_are_notified_in_the_order_of_their_arrival(
    service: Service, clock: Clock, notifier: RecordedNotifier
) -> None:
    job_ids = [submit(service, f"concept-{n}") for n in range(4)]
    notifier.notified.clear()
    clock.tick(6)
    reconciler.reconcile(service)
    assert [job_id for job_id, _ in notifier.notified] == job_ids


def test_no_job_is_notified_while_a_hundred_messages_are_pending(
    service: Service, clock: Clock, notifier: RecordedNotifier
) -> None:
    job_ids = [submit(service, f"concept-{n}") for n in range(3)]
    before = [jobs.get(service, OWNER, job_id=job_id) for job_id in job_ids]
    notifier.notified.clear()
    clock.tick(6)
    notifier.waiting_messages = 100
    assert reconciler.reconcile(service).notified == 0
    notifier.waiting_messages = 98
    assert reconciler.reconcile(service).notified == 2
    assert [job_id for job_id, _ in notifier.notified] == job_ids[:2]
    notifier.waiting_messages = 0
    # The job that was not notified is still due; those that were notified are not.
    assert reconciler.reconcile(service).notified == 1
    assert notifier.notified[-1] == (job_ids[2], "train")
    assert [jobs.get(service, OWNER, job_id=job_id) for job_id in job_ids] == before


def test_a_dead_queue_costs_one_attempt_and_is_tried_again_soon(
    service: Service, clock: Clock, notifier: RecordedNotifier
) -> None:
    for n in range(3):
        submit(service, f"concept-{n}")
    notifier.broken = True
    for _ in range(20):
        clock.tick(6)
        assert reconciler.reconcile(service).notified == 0
    notifier.broken = False
    notifier.notified.clear()
    clock.tick(6)
    assert reconciler.reconcile(service).notified == 3
    assert len(notifier.notified) == 3


def test_many_reconcilers_at_once_repair_each_job_once(
    service: Service, clock: Clock, notifier: RecordedNotifier
) -> None:
    claims = [claim(service, submit(service, f"concept-{n}")) for n in range(3)]
    clock.tick(31)
    notifier.notified.clear()
    with ThreadPoolExecutor(6) as pool:
        passes = list(pool.map(lambda _: reconciler.reconcile(service), range(12)))
    # Each skips the rows that another has locked; the next pass repairs what was left.
    passes.append(reconciler.reconcile(service))
    assert sum(done.requeued for done in passes) == len(claims)
    assert len(notifier.notified) == len(claims)


def test_at_the_start_of_a_single_process_every_running_job_is_an_orphan(
    service: Service, clock: Clock, notifier: RecordedNotifier
) -> None:
    waiting = submit(service, "waiting")
    running = claim(service, submit(service, "running"))
    unwanted = claim(service, submit(service, "unwanted"))
    jobs.cancel(service, OWNER, job_id=unwanted.id)
    assert reconciler.orphans_at_start(service) == 2
    statuses = [
        jobs.get(service, OWNER, job_id=job_id).status
        for job_id in (waiting, running.id, unwanted.id)
    ]
    assert statuses == [JobStatus.QUEUED, JobStatus.QUEUED, JobStatus.CANCELLED]
    notifier.notified.clear()
    # Both jobs are notified, because the messages of the ended process are lost.
    assert reconciler.reconcile(service).notified == 2
    assert sorted(notifier.notified) == sorted([(waiting, "train"), (running.id, "train")])
