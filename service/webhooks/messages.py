"""The message of a webhook: what happened, and the job as its owner would see it now."""

import json
from datetime import datetime
from typing import Literal

from service.database.tables import JobRow
from service.jobs import use_cases as jobs
from service.jobs.views import JobView
from service.statuses import TERMINAL
from service.views import View
from service.wiring import Service


class WebhookMessage(View):
    """The body of a webhook. `timestamp` says when the job ended."""

    type: Literal["job.succeeded", "job.failed", "job.cancelled"]
    timestamp: datetime
    data: JobView


def of_job(service: Service, job_id: str) -> str | None:
    """Return the message of a job that has ended, as JSON; None if its owner deleted the job."""
    with service.database.read() as session:
        job = session.get(JobRow, job_id)
        if job is None or job.status not in TERMINAL:
            return None
        view = jobs.view(session, job)
    message = WebhookMessage.model_validate(
        {"type": f"job.{job.status.value}", "timestamp": job.finished_at, "data": view}
    )
    return json.dumps(message.to_json(), separators=(",", ":"))
