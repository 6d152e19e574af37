"""Which job is next. Owners alternate, so that a thousand jobs of one do not starve another's one.

Each job gets a number, its `turn`, when it is accepted: one more than its owner's last waiting or
running job of the kind, but not less than the turn that is being served now. The lowest turn goes
first. So the jobs of one owner stay in order, those of several alternate, and an owner who comes
back after a while has neither saved up turns nor fallen behind. (Queueing networks call this
start-time fair queueing.)
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
from service.statuses import JobKind, JobStatus

_OWN, _KIND = JobRow.owner_id == bindparam("owner"), JobRow.kind == bindparam("kind")
_RUNS, _WAITS = JobRow.status == JobStatus.RUNNING, JobRow.status == JobStatus.QUEUED


def _turn(*which: ColumnElement[bool], last: bool) -> ScalarSelect[int]:
    """The last or the first turn: one step into an index, however many jobs there are."""
    order = JobRow.turn.desc() if last else JobRow.turn
    return select(JobRow.turn).where(*which).order_by(order).limit(1).scalar_subquery()


# What is being served now: the latest turn that runs, or else the first that waits.
_SERVED = func.coalesce(_turn(_KIND, _RUNS, last=True), _turn(_KIND, _WAITS, last=False), 0)
_BOUNDS = union_all(
    select((_turn(_OWN, _KIND, _WAITS, last=True) + 1).label("turn")),
    select(_turn(_OWN, _KIND, _RUNS, last=True) + 1),
    select(_SERVED),
).subquery("bounds")
_TURN = select(func.max(_BOUNDS.c.turn).label("turn")).subquery("given")

# Positions in a queue are counted so far; the last one stands for all behind it too.
LAST_POSITION = 1000


def counted(rows: Select[Any], *, most: int | BindParameter[int]) -> ScalarSelect[int]:
    """How many rows there are, counted no further than `most`: a queue may be very long."""
    return select(func.count()).select_from(rows.limit(most).subquery()).scalar_subquery()


# A row of columns like `QueuePosition`, for `owner`, `kind` and `most_waiting`; made once, for
# every request accepted.
_MOST_WAITING = bindparam("most_waiting", type_=Integer)
_AHEAD = select(JobRow.turn).where(_KIND, _WAITS, JobRow.turn <= _TURN.c.turn).correlate(_TURN)
QUEUE_POSITION = select(
    _TURN.c.turn,
    counted(select(JobRow.turn).where(_OWN, _WAITS), most=_MOST_WAITING).label("waiting"),
    counted(_AHEAD, most=LAST_POSITION - 1).label("ahead"),
)


@dataclass(frozen=True)
class QueuePosition:
    """A new job's turn; how many jobs of its owner wait already, of both kinds; how many go first.

    `waiting` is counted no further than its limit. `ahead` counts the jobs of its kind, of all
    owners, and no further than LAST_POSITION.
    """

    turn: int
    waiting: int
    ahead: int


def queue_position(
    connection: Connection, owner_id: str, *, kind: JobKind, most_waiting: int
) -> QueuePosition:
    """Return where the next job of this owner goes; `most_waiting` is the limit of an owner."""
    parameters = {"owner": owner_id, "kind": kind, "most_waiting": most_waiting}
    return QueuePosition(*connection.execute(QUEUE_POSITION, parameters).one())


def next_job(kind: JobKind, *, now: datetime, most_running: int) -> ScalarSelect[str]:
    """Return a query of the id of the job with the lowest turn, without those claimed right now.

    An owner who has `most_running` jobs running waits until one of them ends. Claims of the same
    moment do not see each other, so that number may be passed by one or two.
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
            JobRow.kind == kind,
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
