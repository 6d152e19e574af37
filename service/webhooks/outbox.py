"""The outbox of webhooks: rows that are written with their job, taken under a lease, and sent.

A message is due once its job's status is final, so the commit that ends a job makes its message due
at the same moment, whatever code ends the job. Taking a message hides it for the time of the lease.
If the process that took it dies, another process sends it again under the same id. So a message is
sent at least once, until its receiver answers or every attempt has failed.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, func, insert, select, tuple_, update
from sqlalchemy.orm import Session

from service.database.tables import JobRow, WebhookRow
from service.ids import new_id
from service.statuses import TERMINAL, WebhookState
from service.webhooks.addresses import parse
from service.webhooks.requests import Webhook
from service.wiring import Service

# Pauses of 5 s, 15 s, 45 s .. 3 h, then 8 h each: with 16 attempts two and a half days.
_FACTOR = 3
_LONGEST_PAUSE_SECONDS = 8 * 3600.0
# Messages that failed together should not come back together.
_JITTER = 0.2
_CANDIDATES = 200


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A message that is due, and whom it concerns."""

    id: str
    owner_id: str
    host: str


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A message that this process sends; `attempt` counts from 1 and is the token of its lease."""

    id: str
    job_id: str
    owner_id: str
    url: str
    host: str
    attempt: int


def add(
    connection: Connection,
    service: Service,
    owner_id: str,
    *,
    job_id: str,
    webhook: Webhook | None,
    now: datetime,
) -> None:
    """Write the message of a job, in the transaction that accepts the job."""
    if webhook is None:
        return
    destination = parse(webhook.url, private=service.settings.webhooks_private)
    connection.execute(
        insert(WebhookRow).values(
            id=new_id("msg"),
            job_id=job_id,
            owner_id=owner_id,
            url=webhook.url,
            host=destination.host,
            state=WebhookState.WAITING,
            attempts=0,
            next_at=now,
        )
    )


def candidates(
    service: Service,
    *,
    most_per_owner: int,
    most_per_host: int,
    full_owners: Collection[str],
    full_hosts: Collection[tuple[str, str]],
) -> list[Candidate]:
    """Return messages that are due, owners by turns, and the hosts of an owner by turns.

    An owner has no more than `most_per_owner` candidates, and no more than `most_per_host` for one
    host. So a slow receiver, or an owner with many messages, hides no other. `full_owners` and the
    pairs of owner and host in `full_hosts` are left out.
    """
    of_owner_and_host = tuple_(WebhookRow.owner_id, WebhookRow.host)
    with service.database.read() as session:
        now = service.database.now(session)
        oldest = (WebhookRow.next_at, WebhookRow.id)
        due = (
            select(
                WebhookRow.id,
                WebhookRow.owner_id,
                WebhookRow.host,
                WebhookRow.next_at,
                func.row_number()
                .over(partition_by=(WebhookRow.owner_id, WebhookRow.host), order_by=oldest)
                .label("of_host"),
            )
            .join(JobRow, JobRow.id == WebhookRow.job_id)
            .where(
                *_waits(now),
                JobRow.status.in_(TERMINAL),
                WebhookRow.owner_id.not_in(full_owners),
                of_owner_and_host.not_in(full_hosts),
            )
            .subquery("due")
        )
        ranked = (
            select(
                due,
                func.row_number()
                .over(partition_by=due.c.owner_id, order_by=(due.c.of_host, due.c.next_at))
                .label("of_owner"),
            )
            .where(due.c.of_host <= most_per_host)
            .subquery("ranked")
        )
        rows = session.execute(
            select(ranked.c.id, ranked.c.owner_id, ranked.c.host)
            .where(ranked.c.of_owner <= most_per_owner)
            .order_by(ranked.c.of_owner, ranked.c.next_at, ranked.c.id)
            .limit(_CANDIDATES)
        )
        return [Candidate(id=row.id, owner_id=row.owner_id, host=row.host) for row in rows]


def take(service: Service, ids: Sequence[str], *, lease_seconds: float) -> list[Taken]:
    """Take messages to send them now; leave out those that another process has taken meanwhile."""
    with service.database.write() as session:
        now = service.database.now(session)
        some = select(WebhookRow.id).where(WebhookRow.id.in_(ids), *_waits(now))
        # PostgreSQL may run a plain subquery again for each row.
        free = some.with_for_update(skip_locked=True).cte("free")
        rows = session.scalars(
            update(WebhookRow)
            .where(WebhookRow.id.in_(select(free.c.id)))
            .values(
                attempts=WebhookRow.attempts + 1,
                next_at=now + timedelta(seconds=lease_seconds),
            )
            .returning(WebhookRow)
            .execution_options(synchronize_session=False, populate_existing=True)
        )
        return [
            Taken(
                id=row.id,
                job_id=row.job_id,
                owner_id=row.owner_id,
                url=row.url,
                host=row.host,
                attempt=row.attempts,
            )
            for row in rows
        ]


def delivered(service: Service, taken: Taken, *, outcome: str) -> None:
    """Note that the receiver has accepted a message, even if another attempt has begun since."""
    with service.database.write() as session:
        _end_attempt(
            session, WebhookRow.id == taken.id, state=WebhookState.DELIVERED, outcome=outcome
        )


def failed(service: Service, taken: Taken, *, outcome: str, is_final: bool) -> None:
    """Note that an attempt failed: the message waits for the next, unless it was the last.

    With `is_final` no other attempt would help. If another attempt has begun since, change nothing.
    """
    newest = (WebhookRow.id == taken.id, WebhookRow.attempts == taken.attempt)
    with service.database.write() as session:
        if is_final or taken.attempt >= service.settings.webhook_attempts:
            _end_attempt(session, *newest, state=WebhookState.FAILED, outcome=outcome)
        else:
            pause = timedelta(seconds=pause_seconds(service, attempt=taken.attempt))
            next_at = service.database.now(session) + pause
            state = WebhookState.WAITING
            _end_attempt(session, *newest, state=state, outcome=outcome, next_at=next_at)


def pause_seconds(service: Service, *, attempt: int) -> float:
    """Return how long a message waits after its failed `attempt`, from 1, with some jitter."""
    pause = service.settings.webhook_retry_seconds * float(_FACTOR) ** (attempt - 1)
    return min(pause, _LONGEST_PAUSE_SECONDS) * random.uniform(1, 1 + _JITTER)


def count(session: Session) -> dict[str, int]:
    """Return the number of webhooks of ended jobs in each state."""
    counted = select(WebhookRow.state, func.count()).join(JobRow, JobRow.id == WebhookRow.job_id)
    rows = session.execute(counted.where(JobRow.status.in_(TERMINAL)).group_by(WebhookRow.state))
    return {state: number for state, number in rows}  # noqa: C416 (Row is no tuple for mypy)


def _waits(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return WebhookRow.state == WebhookState.WAITING, WebhookRow.next_at <= now


def _end_attempt(session: Session, *which: ColumnElement[bool], **values: object) -> None:
    session.execute(
        update(WebhookRow)
        .where(WebhookRow.state == WebhookState.WAITING, *which)
        .values(values)
        .execution_options(synchronize_session=False)
    )
