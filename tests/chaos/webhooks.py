"""The receiver of every job's webhook, which fails at random, and the check of what it got."""

import random
import time
from collections import defaultdict
from datetime import UTC, datetime
from threading import Lock
from typing import Any, BinaryIO

from sqlalchemy import select
from sqlalchemy.orm import Session
from standardwebhooks import Webhook as Signer

from service.auth import LOCAL_OWNER
from service.database.tables import JobRow, WebhookRow
from service.statuses import WebhookState
from service.webhooks import signatures
from service.wiring import Service
from tests.integration.stack.receiver import Received, Receiver, status

# A sender waits for three seconds, and tries often enough for a run of a few minutes.
SETTINGS: dict[str, object] = {
    "webhooks_private": "true",
    "webhook_seconds": 3,
    "webhook_retry_seconds": 0.001,  # where commits lose their answers, many attempts send nothing
    "webhook_attempts": 50,
}


class Hooks:
    """A receiver that accepts six messages in ten, and at last the third attempt at one."""

    def __init__(self, seed: int) -> None:
        self._choose = random.Random(f"hooks-{seed}")
        self._lock = Lock()
        self.accepted: list[Received] = []
        self.receiver = Receiver(answer=self._answer)

    @property
    def repeats(self) -> int:
        """How many messages came again, after an error or though they had been accepted."""
        return len(self.receiver.received) - len({got.id for got in self.receiver.received})

    def _answer(self, got: Received, connection: BinaryIO) -> None:
        with self._lock:
            # The pauses grow, and a run must not wait for an unlucky message for minutes.
            is_patient = sum(each.id == got.id for each in self.receiver.received) < 3
            fate = self._choose.random() if is_patient else 0.0
            if fate < 0.7:
                self.accepted.append(got)
        if fate < 0.6:
            status(204)(got, connection)
        elif fate < 0.7:
            pass  # accepted, but the sender never learns of it
        elif fate < 0.8:
            status(500)(got, connection)
        elif fate < 0.9:
            time.sleep(4)


def none_waits(session: Session) -> bool:
    """Return whether no message waits any more."""
    waiting = select(WebhookRow.id).where(WebhookRow.state == WebhookState.WAITING)
    return session.scalar(waiting.limit(1)) is None


def waiting(service: Service) -> list[str]:
    """Return a sentence for each message that still waits."""
    with service.database.read() as session:
        rows = session.scalars(select(WebhookRow).where(WebhookRow.state == WebhookState.WAITING))
        return [
            f"{row.id} waits until {row.next_at} after {row.attempts} attempts: {row.outcome}"
            for row in rows
        ]


def violations(service: Service, hooks: Hooks) -> list[str]:
    """Return a sentence for each job whose end was not announced as promised."""
    signer = Signer(signatures.secret(service, LOCAL_OWNER))
    found, received = [], defaultdict(set)
    for got in hooks.receiver.received:
        received[got.message["data"]["id"]].add(got.id)
        at = datetime.fromtimestamp(int(got.headers["webhook-timestamp"]), UTC)
        if signer.sign(got.id, at, got.body.decode()) != got.headers["webhook-signature"]:
            found.append(f"{got.id} has a wrong signature")
    accepted = {got.message["data"]["id"]: got.message for got in hooks.accepted}
    with service.database.read() as session:
        jobs = {job.id: job for job in session.scalars(select(JobRow))}
        rows = {row.job_id: row for row in session.scalars(select(WebhookRow))}
    for job_id, job in jobs.items():
        if job_id not in rows:
            found.append(f"{job_id} has lost its webhook")
        elif job_id not in accepted:
            found.append(f"the end of {job_id} was not announced: {rows[job_id].outcome}")
        else:
            found += _wrong(job, rows[job_id], accepted[job_id], ids=received[job_id])
    return found


def _wrong(job: JobRow, row: WebhookRow, message: Any, *, ids: set[str]) -> list[str]:
    found = []
    if ids != {row.id}:
        found.append(f"{job.id} was announced under the ids {sorted(ids)}")
    if row.state != WebhookState.DELIVERED:
        found.append(f"the webhook of {job.id} is {row.state}")
    ended = (f"job.{job.status.value}", job.status.value)
    if (message["type"], message["data"]["status"]) != ended:
        found.append(f"{job.id} is {job.status.value} and was announced as {message['type']}")
    return found
