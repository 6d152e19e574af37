"""A message is written with its job, is due when the job has ended, and is never lost."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from service.database.tables import JobRow, WebhookRow
from service.errors import problem
from service.execution import leases, reconciler
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.idempotency import Idempotency
from service.jobs import use_cases as jobs
from service.statuses import WebhookState
from service.webhooks import messages, outbox
from service.webhooks.outbox import Candidate, Taken
from service.webhooks.requests import Webhook
from service.wiring import Service
from tests.unit.service.concepts.created import create
from tests.unit.service.staging import (
    OWNER,
    STRANGER,
    Clock,
    LosingDatabase,
    at_once,
    claim,
    generated,
    trained,
)

WEBHOOK = {"url": "https://1.1.1.1/hook"}
LEASE_SECONDS = 30


def accept(service: Service, *, owner_id: str = OWNER, url: str = WEBHOOK["url"]) -> str:
    """Request an image with a webhook; return the id of the job."""
    body = GenerateRequest.read({"prompt": "a boat", "webhook": {"url": url}})
    return str(generations.request(service, owner_id, body=body).body["job"]["id"])


def end(service: Service, job_id: str) -> None:
    claimed = claim(service, job_id)
    assert leases.finish_generation(service, claimed, images=generated(service, claimed))


def due(service: Service, **options: Any) -> list[Candidate]:
    limits: dict[str, Any] = {
        "most_per_owner": 100, "most_per_host": 100, "full_owners": (), "full_hosts": ()
    }  # fmt: skip
    return outbox.candidates(service, **limits | options)


def take(service: Service, lease_seconds: float = LEASE_SECONDS) -> list[Taken]:
    ids = [candidate.id for candidate in due(service)]
    return outbox.take(service, ids, lease_seconds=lease_seconds)


def row(service: Service, webhook_id: str) -> WebhookRow:
    with service.database.read() as session:
        return session.get_one(WebhookRow, webhook_id)


def count(service: Service) -> int:
    with service.database.read() as session:
        return session.scalar(select(func.count()).select_from(WebhookRow)) or 0


def cancel(service: Service, clock: Clock) -> None:
    """Cancel while the job waits."""
    jobs.cancel(service, OWNER, job_id=accept(service))


def cancel_running(service: Service, clock: Clock) -> None:
    claimed = claim(service, accept(service))
    jobs.cancel(service, OWNER, job_id=claimed.id)
    leases.cancelled(service, claimed)


def cancel_and_lose_the_worker(service: Service, clock: Clock) -> None:
    claimed = claim(service, accept(service))
    jobs.cancel(service, OWNER, job_id=claimed.id)
    clock.tick(3600)
    reconciler.reconcile(service)


def fail(service: Service, clock: Clock) -> None:
    leases.fail(service, claim(service, accept(service)), problem=problem("not-judged", "No."))


def lose_every_worker(service: Service, clock: Clock) -> None:
    job_id = accept(service)
    for _ in range(service.settings.max_attempts):
        claim(service, job_id)
        clock.tick(3600)
        reconciler.reconcile(service)


def succeed(service: Service, clock: Clock) -> None:
    end(service, accept(service))


def succeed_in_training(service: Service, clock: Clock) -> None:
    answer = create(service, webhook=Webhook.read(WEBHOOK))
    claimed = claim(service, answer.body["job"]["id"])
    assert leases.finish_training(service, claimed, trained=trained(service, claimed))


ENDS = {
    "job.succeeded": (succeed, succeed_in_training),
    "job.failed": (fail, lose_every_worker),
    "job.cancelled": (cancel, cancel_running, cancel_and_lose_the_worker),
}


@pytest.mark.parametrize(
    ("kind", "end_somehow"), [(kind, act) for kind, acts in ENDS.items() for act in acts]
)
def test_whatever_ends_a_job_makes_its_message_due(
    service: Service, clock: Clock, kind: str, end_somehow: Callable[[Service, Clock], None]
) -> None:
    end_somehow(service, clock)
    (taken,) = take(service)
    message = messages.of_job(service, taken.job_id)
    assert message is not None
    assert f'{{"type":"{kind}","timestamp":"2026-' in message
    job = jobs.get(service, OWNER, job_id=taken.job_id)
    assert messages.WebhookMessage.model_validate_json(message).data == job.model_copy(
        update={"version": 0}
    )


def test_before_its_end_a_job_has_no_message(service: Service, clock: Clock) -> None:
    job_id = accept(service)
    assert due(service) == []
    claimed = claim(service, job_id)
    leases.release(service, claimed, delay_seconds=0, spend_attempt=False)
    claim(service, job_id)
    clock.tick(1)
    assert due(service) == []
    assert messages.of_job(service, job_id) is None


def test_a_request_without_a_webhook_writes_no_message(service: Service) -> None:
    generations.request(service, OWNER, body=GenerateRequest(prompt="a boat"))
    assert count(service) == 0


def test_a_repeated_request_writes_one_message_and_another_webhook_is_another_request(
    service: Service,
) -> None:
    body = GenerateRequest.read({"prompt": "a boat", "webhook": WEBHOOK})
    key = Idempotency("k")
    first = generations.request(service, OWNER, body=body, idempotency=key)
    again = generations.request(service, OWNER, body=body, idempotency=key)
    assert (again.replayed, again.body) == (True, first.body)
    assert count(service) == 1
    other = GenerateRequest.read({"prompt": "a boat", "webhook": {"url": "https://1.1.1.1/b"}})
    with pytest.raises(Exception, match="was used for another request"):
        generations.request(service, OWNER, body=other, idempotency=key)
    created = create(service, key="c", webhook=Webhook.read(WEBHOOK))
    assert create(service, key="c", webhook=Webhook.read(WEBHOOK)).body == created.body
    with pytest.raises(Exception, match="was used for another request"):
        create(service, key="c")
    assert count(service) == 2


def test_a_message_that_is_being_sent_is_taken_by_no_other_process(service: Service) -> None:
    for _ in range(5):
        end(service, accept(service))
    taken: list[Taken] = []
    at_once([lambda: taken.extend(take(service)) for _ in range(4)])
    assert len(taken) == 5
    assert len({each.id for each in taken}) == 5
    assert due(service) == []


def test_a_message_whose_process_died_is_sent_again_under_the_same_id(
    service: Service, clock: Clock
) -> None:
    end(service, accept(service))
    (first,) = take(service)
    clock.tick(LEASE_SECONDS - 1)
    assert due(service) == []
    clock.tick(2)
    (second,) = take(service)
    assert (second.id, second.attempt) == (first.id, 2)
    # The process was only slow: its failure does not end the newer attempt, its success counts.
    outbox.failed(service, first, outcome="timeout", is_final=True)
    assert row(service, first.id).state == WebhookState.WAITING
    outbox.delivered(service, first, outcome="status 204")
    outbox.failed(service, second, outcome="timeout", is_final=False)
    clock.tick(1e6)
    assert (row(service, first.id).state, due(service)) == (WebhookState.DELIVERED, [])


def test_pauses_grow_to_hours_and_attempts_end_after_days(service: Service, clock: Clock) -> None:
    end(service, accept(service))
    began, gaps = clock.now, []
    for attempt in range(1, 1 + service.settings.webhook_attempts):
        (taken,) = take(service)
        assert taken.attempt == attempt
        outbox.failed(service, taken, outcome="status 500", is_final=False)
        gap = row(service, taken.id).next_at - clock.now
        gaps.append(gap.total_seconds())
        clock.tick(gap.total_seconds() + 1)
    expected = [min(5 * 3**n, 8 * 3600) for n in range(len(gaps) - 1)]
    assert all(pause <= gap <= 1.2 * pause + 1 for pause, gap in zip(expected, gaps, strict=False))
    assert 2 <= (clock.now - began).days <= 3
    given_up = row(service, taken.id)
    assert (given_up.state, given_up.outcome) == (WebhookState.FAILED, "status 500")
    assert due(service) == []


def test_a_receiver_that_is_gone_for_good_is_not_asked_again(
    service: Service, clock: Clock
) -> None:
    end(service, accept(service))
    (taken,) = take(service)
    outbox.failed(service, taken, outcome="status 410", is_final=True)
    clock.tick(1e6)
    assert (row(service, taken.id).state, due(service)) == (WebhookState.FAILED, [])


def test_an_attempt_whose_record_was_lost_costs_a_repeat_and_no_message(
    make_service: Callable[..., Service], clock: Clock
) -> None:
    service = make_service()
    end(service, accept(service))
    (taken,) = take(service)
    object.__setattr__(service, "database", LosingDatabase(service.database))
    with pytest.raises(Exception, match="The connection broke"):
        outbox.delivered(service, taken, outcome="status 204")
    assert row(service, taken.id).state == WebhookState.DELIVERED
    with pytest.raises(Exception, match="The connection broke"):  # nor does saying it again matter
        outbox.delivered(service, taken, outcome="status 204")
    assert row(service, taken.id).attempts == 1


def test_owners_and_receivers_have_their_turns(service: Service) -> None:
    for host in ("1.1.1.1", "1.1.1.1", "1.1.1.1", "8.8.8.8"):
        end(service, accept(service, url=f"https://{host}/hook"))
    end(service, accept(service, owner_id=STRANGER))
    several = due(service, most_per_owner=3, most_per_host=2)
    assert [(each.owner_id, each.host) for each in several] == [
        (OWNER, "1.1.1.1"), (STRANGER, "1.1.1.1"), (OWNER, "8.8.8.8"), (OWNER, "1.1.1.1")
    ]  # fmt: skip
    others = due(service, full_hosts=[(OWNER, "1.1.1.1")])
    assert [each.host for each in others] == ["8.8.8.8", "1.1.1.1"]
    assert {each.owner_id for each in due(service, full_owners=[OWNER])} == {STRANGER}


def test_the_message_of_a_deleted_job_is_deleted_with_it(service: Service) -> None:
    job_id = accept(service)
    jobs.cancel(service, OWNER, job_id=job_id)
    (taken,) = take(service)
    with service.database.write() as session:
        session.execute(delete(JobRow).where(JobRow.id == job_id))
    assert (count(service), messages.of_job(service, job_id)) == (0, None)
    outbox.delivered(service, taken, outcome="status 204")


def test_states_are_counted_once_the_job_has_ended(service: Service) -> None:
    accept(service)
    for _ in range(3):
        end(service, accept(service))
    first, second, _ = take(service)
    outbox.delivered(service, first, outcome="status 204")
    outbox.failed(service, second, outcome="status 410", is_final=True)
    with service.database.read() as session:
        assert outbox.count(session) == {"delivered": 1, "failed": 1, "waiting": 1}
