"""The message of every ended job reaches its receiver, and no receiver stops another."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Event
from typing import BinaryIO

import pytest
from sqlalchemy import select
from standardwebhooks import Webhook as Verifier

from service import log
from service.database.tables import WebhookRow
from service.generations import use_cases as generations
from service.generations.requests import GenerateRequest
from service.jobs import use_cases as jobs
from service.statuses import WebhookState
from service.webhooks import signatures
from service.wiring import Service
from tests.integration.stack.receiver import Received, Receiver, status
from tests.unit.worker.staging import OWNER, wait_until
from worker.reconciler import Reconciler
from worker.webhooks.sender import WebhookSender

OTHER = "owner_b"


@pytest.fixture
def service(make_service: Callable[..., Service]) -> Service:
    return make_service(webhooks_private=True, webhook_retry_seconds=0.1, webhook_attempts=4)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def sender(service: Service) -> Iterator[WebhookSender]:
    running = WebhookSender(service)
    running.start()
    yield running
    running.stop()


def end_a_job(service: Service, url: str, *, owner_id: str = OWNER) -> str:
    """Let a job with a webhook end; return its id."""
    body = GenerateRequest.read({"prompt": "a boat", "webhook": {"url": url}})
    job_id = str(generations.request(service, owner_id, body=body).body["job"]["id"])
    jobs.cancel(service, owner_id, job_id=job_id)
    return job_id


def states(service: Service) -> list[str]:
    with service.database.read() as session:
        return list(session.scalars(select(WebhookRow.state)))


def test_every_process_that_repairs_jobs_sends_the_messages_of_ended_jobs(
    service: Service, receiver: Receiver
) -> None:
    job_id = end_a_job(service, receiver.url)
    repairs = Reconciler(service)
    repairs.start()
    wait_until(lambda: states(service) == [WebhookState.DELIVERED])
    repairs.stop()
    (got,) = receiver.received
    message = Verifier(signatures.secret(service, OWNER)).verify(got.body, got.headers)
    assert message["type"] == "job.cancelled"
    assert message["data"]["id"] == job_id
    assert message["timestamp"] == message["data"]["finished_at"]


def test_a_message_is_repeated_under_its_id_until_it_is_accepted(
    service: Service, receiver: Receiver, sender: WebhookSender
) -> None:
    def fails_three_times(got: Received, connection: BinaryIO) -> None:
        status(503 if len(receiver.received) < 4 else 200)(got, connection)

    receiver.answer = fails_three_times
    end_a_job(service, receiver.url)
    wait_until(lambda: states(service) == [WebhookState.DELIVERED])
    assert len({got.id for got in receiver.received}) == 1
    assert len({got.body for got in receiver.received}) == 1
    assert len(receiver.received) == 4


@pytest.mark.parametrize(("code", "times"), [(500, 4), (410, 1)])
def test_it_is_given_up_after_its_attempts_or_when_the_receiver_is_gone(
    service: Service, receiver: Receiver, sender: WebhookSender, code: int, times: int
) -> None:
    receiver.answer = status(code)
    end_a_job(service, receiver.url)
    wait_until(lambda: states(service) == [WebhookState.FAILED])
    time.sleep(0.5)
    assert len(receiver.received) == times


def test_a_receiver_that_hangs_delays_neither_another_receiver_nor_another_owner(
    service: Service, receiver: Receiver, sender: WebhookSender
) -> None:
    over = Event()
    with (
        Receiver(answer=lambda *_: over.wait(30) and None) as hanging,
        ExitStack() as at_the_end,
    ):
        at_the_end.callback(over.set)  # after a failure, too
        for _ in range(8):
            end_a_job(service, hanging.url)
        wait_until(lambda: bool(hanging.received))
        end_a_job(service, receiver.url.replace("127.0.0.1", "localhost"))
        end_a_job(service, receiver.url, owner_id=OTHER)
        wait_until(lambda: len(receiver.received) == 2, timeout_seconds=5)
        assert len(hanging.received) == 2


def test_many_messages_do_not_wait_for_the_next_look(
    make_service: Callable[..., Service], receiver: Receiver
) -> None:
    service = make_service(webhooks_private=True, reconcile_seconds=600)
    for _ in range(20):
        end_a_job(service, receiver.url)
    sender = WebhookSender(service)
    sender.start()
    wait_until(lambda: set(states(service)) == {WebhookState.DELIVERED})
    sender.stop()
    assert len({got.id for got in receiver.received}) == len(receiver.received) == 20


def test_a_stop_waits_for_what_is_being_sent(service: Service, receiver: Receiver) -> None:
    def slow(got: Received, connection: BinaryIO) -> None:
        time.sleep(0.5)
        status(200)(got, connection)

    receiver.answer = slow
    end_a_job(service, receiver.url)
    sender = WebhookSender(service)
    sender.start()
    wait_until(lambda: bool(receiver.received))
    sender.stop()
    assert states(service) == [WebhookState.DELIVERED]


def test_neither_the_url_nor_a_secret_is_logged(
    service: Service, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(service.settings.model_copy(update={"log_level": "debug"}))
    sender = WebhookSender(service)
    try:
        end_a_job(service, receiver.url)
        sender.start()
        wait_until(lambda: states(service) == [WebhookState.DELIVERED])
    finally:
        sender.stop()
    logged = capsys.readouterr().err
    assert "webhook.delivered" in logged
    assert receiver.received[0].id in logged
    secret = signatures.secret(service, OWNER)
    signature = receiver.received[0].headers["webhook-signature"]
    assert [it for it in ("secret-of-the-receiver", secret, signature) if it in logged] == []
