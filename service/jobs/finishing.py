"""End a training now, at its owner's request, and keep the best state that it has reached."""

from sqlalchemy import update

from service.database.tables import JobRow
from service.errors import Conflict
from service.jobs import use_cases
from service.jobs.views import JobView
from service.statuses import TERMINAL, JobKind
from service.wiring import Service


def finish(service: Service, owner_id: str, *, job_id: str) -> JobView:
    """Ask a training to stop learning now; its concept is judged as usual, and then ready.

    A second call changes nothing. An attempt that has to start again, because its worker was lost,
    trains up to the step that the training had reached at the first call, so the kept state is at
    least as good. Raise Conflict if the job is no training, has ended, or has learned nothing yet.
    """
    with service.database.write() as session:
        job = use_cases.find(session, owner_id, job_id=job_id)
        if job.kind is not JobKind.TRAIN:
            raise Conflict(
                "not-a-training",
                "Only a training can finish early. POST /jobs/{id}/cancel stops any other job.",
            )
        asked = session.execute(
            update(JobRow)
            .where(
                JobRow.id == job_id,
                JobRow.status.not_in(TERMINAL),
                JobRow.finish_requested_at.is_(None),
                JobRow.step > 0,
            )
            .values(
                finish_requested_at=service.database.now(session),
                finish_step=JobRow.step,
                version=JobRow.version + 1,
            )
            .returning(JobRow.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        session.refresh(job)
        if asked is None and job.status in TERMINAL:
            raise use_cases.already_ended(job, "finish")
        if job.finish_requested_at is None:
            raise Conflict(
                "nothing-learned",
                "This training has learned nothing yet. Cancel it, or finish it after its first "
                "step.",
            )
        return use_cases.view(session, job)
