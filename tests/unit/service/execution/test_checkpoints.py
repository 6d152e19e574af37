"""A training resumes from the newest checkpoint that its row names; progress saves attempts."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from service.blobs import keys
from service.database.tables import JobRow
from service.errors import Unavailable
from service.execution import checkpoints, leases, reconciler
from service.garbage import collection
from service.jobs import use_cases as jobs
from service.jobs.lease_types import ClaimedJob
from service.statuses import JobStatus
from service.wiring import Service
from tests.unit.service.staging import (
    OWNER,
    Clock,
    LosingDatabase,
    blob_keys,
    claim,
    submit,
    trained,
)


def row(service: Service, job_id: str) -> JobRow:
    with service.database.read() as session:
        return session.get_one(JobRow, job_id)


def save(service: Service, claimed: ClaimedJob, step: int) -> bool:
    state = f"{claimed.attempt}: {step}".encode()
    return checkpoints.save_state(service, claimed, state=state, step=step)


def lose(service: Service, clock: Clock) -> None:
    """Let the leases expire, as those of dead workers do."""
    clock.tick(31)
    reconciler.reconcile(service)


def give_up(service: Service, clock: Clock, claimed: ClaimedJob) -> None:
    """Release a job because the device broke."""
    leases.release(service, claimed, delay_seconds=0, spend_attempt=True)


def states(service: Service) -> set[str]:
    return {key for key in blob_keys(service) if "state" in key}


def test_an_attempt_goes_on_from_the_newest_state_and_the_older_one_goes(
    service: Service, clock: Clock
) -> None:
    job_id = submit(service)
    first = claim(service, job_id)
    assert checkpoints.read_state(service, first) is None
    assert save(service, first, 10) and save(service, first, 20)
    lose(service, clock)
    second = claim(service, job_id)
    assert checkpoints.read_state(service, second) == b"1: 20"
    assert save(service, second, 30)
    assert states(service) == {keys.state_key(job_id, 2)}
    lose(service, clock)
    assert checkpoints.read_state(service, claim(service, job_id)) == b"2: 30"


def test_a_worker_that_wakes_past_its_lease_overwrites_nothing_of_its_heirs(
    service: Service, clock: Clock
) -> None:
    job_id = submit(service)
    zombie = claim(service, job_id)
    save(service, zombie, 10)
    lose(service, clock)
    heir = claim(service, job_id)
    save(service, heir, 20)
    checkpoints.save_preview(service, heir, png=b"of the heir")
    assert not save(service, zombie, 11)
    assert not checkpoints.save_preview(service, zombie, png=b"of the zombie")
    assert jobs.preview(service, OWNER, job_id=job_id) == b"of the heir"
    lose(service, clock)
    assert checkpoints.read_state(service, claim(service, job_id)) == b"2: 20"


def test_a_state_whose_answer_is_lost_may_be_saved_again_and_what_it_replaces_stays(
    service: Service, clock: Clock
) -> None:
    job_id = submit(service)
    save(service, claim(service, job_id), 10)
    lose(service, clock)
    second = claim(service, job_id)
    with pytest.raises(Unavailable):
        save(replace(service, database=LosingDatabase(service.database)), second, 20)
    assert states(service) == {keys.state_key(job_id, 1), keys.state_key(job_id, 2)}
    assert save(service, second, 20)
    lose(service, clock)
    assert row(service, job_id).attempts_spent == 0
    assert checkpoints.read_state(service, claim(service, job_id)) == b"2: 20"


def test_a_training_resumes_from_the_previous_releases_state_where_the_row_names_none(
    service: Service, clock: Clock
) -> None:
    job_id = submit(service)
    service.blobs.put(f"jobs/{job_id}/state.safetensors", b"of the previous release")
    claimed = claim(service, job_id)
    assert checkpoints.read_state(service, claimed) == b"of the previous release"
    save(service, claimed, 10)
    # A worker of that release may claim the job next, and knows only this blob.
    assert f"jobs/{job_id}/state.safetensors" in states(service)
    assert leases.finish_training(service, claimed, trained=trained(service, claimed))
    assert states(service) == set()


@pytest.mark.parametrize("leave", [lambda s, c, _: lose(s, c), give_up], ids=["lost", "given up"])
def test_an_attempt_counts_only_if_it_saved_no_new_state(
    service: Service, clock: Clock, leave: Callable[[Service, Clock, ClaimedJob], None]
) -> None:
    job_id = submit(service)
    for attempt in range(1, 9):
        claimed = claim(service, job_id)
        save(service, claimed, attempt)
        leave(service, clock, claimed)
        assert jobs.get(service, OWNER, job_id=job_id).status is JobStatus.QUEUED
        assert row(service, job_id).attempts_spent == 0
    for _ in range(service.settings.max_attempts):
        assert jobs.get(service, OWNER, job_id=job_id).status is JobStatus.QUEUED
        claimed = claim(service, job_id)
        save(service, claimed, 8)  # no later step than before
        leave(service, clock, claimed)
    view = jobs.get(service, OWNER, job_id=job_id)
    assert view.status is JobStatus.FAILED
    assert view.error is not None
    assert view.error.type == "/problems/worker-lost"
    assert blob_keys(service) == {key for key in blob_keys(service) if key.startswith("pictures")}


def test_attempts_that_begin_anew_count_or_a_job_might_never_end(
    service: Service, clock: Clock
) -> None:
    job_id = submit(service)
    save(service, claim(service, job_id), 50)
    lose(service, clock)
    for step in (10, 30, 50):  # later than in the previous attempt, not later than in the first
        assert jobs.get(service, OWNER, job_id=job_id).status is JobStatus.QUEUED
        claimed = claim(service, job_id)
        save(service, claimed, step - 5)
        save(service, claimed, step)
        lose(service, clock)
    assert jobs.get(service, OWNER, job_id=job_id).status is JobStatus.FAILED


def test_a_training_resumes_from_the_state_of_an_attempt_that_began_anew(
    service: Service, clock: Clock
) -> None:
    job_id = submit(service)
    save(service, claim(service, job_id), 50)
    lose(service, clock)
    save(service, claim(service, job_id), 10)
    lose(service, clock)
    assert checkpoints.read_state(service, claim(service, job_id)) == b"2: 10"


def test_the_newest_preview_is_shown_and_stays_where_either_release_finds_it(
    service: Service, clock: Clock
) -> None:
    job_id = submit(service)
    checkpoints.save_preview(service, claim(service, job_id), png=b"first")
    lose(service, clock)
    claimed = claim(service, job_id)
    assert jobs.preview(service, OWNER, job_id=job_id) == b"first"
    checkpoints.save_preview(service, claimed, png=b"second")
    assert jobs.preview(service, OWNER, job_id=job_id) == b"second"
    leases.finish_training(service, claimed, trained=trained(service, claimed))
    assert jobs.preview(service, OWNER, job_id=job_id) == b"second"
    previews = {key for key in blob_keys(service) if "preview" in key}
    assert previews == {f"jobs/{job_id}/preview.png"}


def test_a_preview_that_could_not_be_moved_is_shown_where_it_was_drawn(
    service: Service, clock: Clock
) -> None:
    claimed = claim(service, submit(service))
    checkpoints.save_preview(service, claimed, png=b"png")
    with pytest.raises(Unavailable):
        leases.finish_training(
            replace(service, database=LosingDatabase(service.database)),
            claimed,
            trained=trained(service, claimed),
        )
    clock.tick(1e9)
    collection.collect(service)
    assert jobs.preview(service, OWNER, job_id=claimed.id) == b"png"
