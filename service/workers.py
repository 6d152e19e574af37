"""The worker processes that are alive, known by their heartbeats.

A worker that still loads its models gives signs, too, and says how far it is. Only workers that
have loaded their models count as live.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from service.database.worker_tables import LoadingWorkerRow, WorkerRow
from service.statuses import LoadingPhase, LoadingState, LoadingWorker
from service.wiring import Service

_FORGET_AFTER = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class WorkerView:
    """A worker process with a recent heartbeat."""

    id: str
    queues: tuple[str, ...]
    device: str
    seen_at: datetime


def seen(service: Service, worker_id: str, *, queues: Sequence[str], device: str) -> None:
    """Record a worker's heartbeat; call this function every `heartbeat_seconds`."""
    with service.database.write() as session:
        now = service.database.now(session)
        worker = session.get(WorkerRow, worker_id)
        if worker is None:
            session.execute(delete(LoadingWorkerRow).where(LoadingWorkerRow.id == worker_id))
            session.execute(delete(WorkerRow).where(WorkerRow.seen_at < now - _FORGET_AFTER))
            worker = WorkerRow(id=worker_id, started_at=now)
            session.add(worker)
        worker.queues = list(queues)
        worker.device = device
        worker.seen_at = now


def seen_loading(service: Service, worker_id: str, *, state: LoadingState) -> None:
    """Record the heartbeat of a worker that has not loaded its models yet."""
    with service.database.write() as session:
        now = service.database.now(session)
        row = session.get(LoadingWorkerRow, worker_id)
        if row is None:
            old = LoadingWorkerRow.seen_at < now - _FORGET_AFTER
            session.execute(delete(LoadingWorkerRow).where(old))
            row = LoadingWorkerRow(id=worker_id)
            session.add(row)
        row.phase, row.detail, row.progress = state.phase.value, state.detail, state.progress
        row.seen_at = now


def new_id(machine: str, process_id: int) -> str:
    """Return a unique worker id that shows its machine and process."""
    return f"{machine}-{process_id}-{uuid.uuid4().hex[:6]}"


def machine_of(worker_id: str) -> str:
    """Return the machine's name in a worker's id; the name may contain hyphens."""
    return worker_id.rsplit("-", 2)[0]


def gone(service: Service, worker_id: str) -> None:
    """Remove a worker that has shut down normally."""
    with service.database.write() as session:
        for row in (WorkerRow, LoadingWorkerRow):
            session.execute(delete(row).where(row.id == worker_id))


def live(service: Service) -> list[WorkerView]:
    """Return the workers whose last heartbeat is within the time of a lease."""
    with service.database.read() as session:
        now = service.database.now(session)
        oldest = now - timedelta(seconds=service.settings.lease_seconds)
        rows = session.scalars(
            select(WorkerRow).where(WorkerRow.seen_at >= oldest).order_by(WorkerRow.id)
        )
        return [
            WorkerView(id=row.id, queues=tuple(row.queues), device=row.device, seen_at=row.seen_at)
            for row in rows
        ]


def loading(service: Service) -> list[LoadingWorker]:
    """Return the workers that load their models, or could not, with a recent heartbeat."""
    with service.database.read() as session:
        now = service.database.now(session)
        oldest = now - timedelta(seconds=service.settings.lease_seconds)
        rows = session.scalars(
            select(LoadingWorkerRow)
            .where(LoadingWorkerRow.seen_at >= oldest)
            .order_by(LoadingWorkerRow.id)
        )
        return [
            LoadingWorker(
                id=row.id, phase=LoadingPhase(row.phase), detail=row.detail, progress=row.progress
            )
            for row in rows
        ]
