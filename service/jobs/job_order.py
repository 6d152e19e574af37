"""Decide which job is next. Owners alternate, so that one owner's many jobs do not block another's.

Each accepted job gets a number, the job's `turn`. The turn is one more than the turn of the owner's
last queued or running job in the same queue, but at least the turn that is being served now. The
job with the lowest turn goes first, whatever its kind. So the jobs of one owner stay in order and
the jobs of several owners alternate. An owner who sends no jobs for a while neither gains nor loses
priority. (Queueing networks call this start-time fair queueing.)
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    ScalarSelect,
    Select,
    bindparam,
    func,
    or_,
    select,
    union_all,
)
from sqlalchemy.orm import aliased

from service.database.tables import JobRow
from service.statuses import JobStatus, Queue

_OWN, _QUEUE = JobRow.owner_id == bindparam("owner"), JobRow.queue == bindparam("queue")
_RUNS, _WAITS = JobRow.status == JobStatus.RUNNING, JobRow.status == JobStatus.QUEUED


def _turn(*which: ColumnElement[bool], last: bool) -> ScalarSelect[int]:
    """Return the last or the first turn by one index lookup, however many jobs exist."""
    order = JobRow.turn.desc() if last else JobRow.turn
    return select(JobRow.turn).where(*which).order_by(order).limit(1).scalar_subquery()


# The turn that is being served now: the last turn that is running, or else the first that waits.
_SERVED = func.coalesce(_turn(_QUEUE, _RUNS, last=True), _turn(_QUEUE, _WAITS, last=False), 0)
_BOUNDS = union_all(
    select((_turn(_OWN, _QUEUE, _WAITS, last=True) + 1).label("turn")),
    select(_turn(_OWN, _QUEUE, _RUNS, last=True) + 1),
    select(_SERVED),
).subquery("bounds")
_TURN = select(func.max(_BOUNDS.c.turn).label("turn")).subquery("given")

# The highest position that is counted in a queue; it also stands for all later positions.
LAST_POSITION = 1000


def counted(rows: Select[Any], *, most: int | BindParameter[int]) -> ScalarSelect[int]:
    """Return the number of rows, counted up to `most`, because a queue may be very long."""
    return select(func.count()).select_from(rows.limit(most).subquery()).scalar_subquery()


# A row with the columns of `QueuePosition`, for `owner`, `queue` and `most_waiting`. Built once at
# import, because every accepted request runs it.
_MOST_WAITING = bindparam("most_waiting", type_=Integer)
_AHEAD = select(JobRow.turn).where(_QUEUE, _WAITS, JobRow.turn <= _TURN.c.turn).correlate(_TURN)
QUEUE_POSITION = select(
    _TURN.c.turn,
    counted(select(JobRow.turn).where(_OWN, _WAITS), most=_MOST_WAITING).label("waiting"),
    counted(_AHEAD, most=LAST_POSITION - 1).label("ahead"),
)


@dataclass(frozen=True)
class QueuePosition:
    """A new job's turn, the number of its owner's waiting jobs, and the number of jobs ahead.

    `waiting` counts both queues, up to the owner's limit. `ahead` counts the jobs in the same queue
    of all owners, up to LAST_POSITION.
    """

    turn: int
    waiting: int
    ahead: int


def queue_position(
    connection: Connection, owner_id: str, *, queue: Queue, most_waiting: int
) -> QueuePosition:
    """Return the position of the next job of this owner; `most_waiting` is an owner's limit."""
    parameters = {"owner": owner_id, "queue": queue, "most_waiting": most_waiting}
    return QueuePosition(*connection.execute(QUEUE_POSITION, parameters).one())


def next_job(queue: Queue, *, now: datetime, most_running: int) -> ScalarSelect[str]:
    """Return a query for the id of the job with the lowest turn, without jobs being claimed now.

    If an owner has `most_running` running jobs, the owner's other jobs wait until one ends. Claims
    at the same moment do not see each other, so an owner may exceed the limit by one or two jobs.
    """
    other = aliased(JobRow)
    running = (
        select(func.count())
        .where(other.owner_id == JobRow.owner_id, other.status == JobStatus.RUNNING)
        .correlate(JobRow)
        .scalar_subquery()
    )
    return (
        select(JobRow.id)
        .where(
            JobRow.queue == queue,
            JobRow.status == JobStatus.QUEUED,
            JobRow.cancel_requested_at.is_(None),
            or_(JobRow.not_before.is_(None), JobRow.not_before <= now),
            running < most_running,
        )
        .order_by(JobRow.turn, JobRow.created_at, JobRow.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
