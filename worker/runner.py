"""Runs jobs one after the other, from claim to end, and handles all errors of a job.

A job is claimed and works under a heartbeat. A claimed job has exactly one end: succeeded, failed
with a problem that the job's owner can read, cancelled, or back to the queue. After a fault only
the job's row shows which end was written, so the runner never deletes a job's blobs. Instead
service.execution.leases deletes the blobs after reading the end from the row, and the collection
removes blobs that no row references.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import structlog

from perfusion_core.errors import PerfusionError
from perfusion_core.memory import free_memory, is_out_of_memory
from service import tracing
from service.errors import Unavailable, problem
from service.execution import leases
from service.execution.leases import ClaimedJob
from service.statuses import JobKind, Queue
from worker.engine.device import is_broken
from worker.errors import (
    CancelRequested,
    Draining,
    LeaseLost,
    LeaseNotRenewed,
    OfNewerRelease,
    WorkerError,
)
from worker.heartbeat import Heartbeat

if TYPE_CHECKING:
    from worker.context import WorkerContext

Work = Callable[["WorkerContext", ClaimedJob, Heartbeat], bool]
"""A function that does a job and records its result; returns False if the row refused the
result."""

# The time that a job rests after the first fault of the infrastructure. Each further fault doubles
# it, up to about 5 minutes.
_FAULT_DELAY_SECONDS = 5.0
_MOST_DOUBLINGS = 6
_RETRY_SECONDS = 0.5
# The end of a job that another worker took, or that ended although the answer was lost.
_LOST = "lost"
_log = structlog.get_logger("perfusion.worker")


class Runner:
    """The runner of jobs, called for each message of a queue."""

    def __init__(
        self, context: "WorkerContext", *, work: Mapping[JobKind, Work] | None = None
    ) -> None:
        self._context = context
        self._work = work or _work_on_the_device()

    def run(self, queue: Queue) -> None:
        """Run the jobs of this queue until none is left; never raise an error."""
        # The runner waits for the base model before it claims. Without a base model a job stays in
        # the queue, and the reconciler notifies again.
        while self._context.model_loader.wait() and self._context.willing:
            try:
                claimed = self._claim(queue)
            except Exception:
                _log.exception("job.not_claimed")
                return
            if claimed is None:
                return
            self._run_one(claimed)

    def _claim(self, queue: Queue) -> ClaimedJob | None:
        service, token = self._context.service, leases.new_token()
        try:
            return leases.claim_next(service, queue, worker_id=self._context.worker_id, token=token)
        except Unavailable as error:
            _log.warning("job.not_claimed", problem=error.slug)
        # The claim may have succeeded although its answer was lost. Without another try, the job
        # would wait until the lease expires, and spend an attempt.
        give_up_at = time.monotonic() + service.settings.lease_seconds
        while True:
            try:
                return leases.claimed_with(service, token)
            except Unavailable:
                if self._context.draining.wait(_RETRY_SECONDS) or time.monotonic() > give_up_at:
                    return None

    def _run_one(self, claimed: ClaimedJob) -> None:
        structlog.contextvars.bind_contextvars(job_id=claimed.id)
        try:
            _log.info("job.claimed", kind=claimed.kind.value, attempt=claimed.attempt)
            began = time.monotonic()
            with tracing.span(f"job {claimed.kind.value}", job_id=claimed.id):
                end = self._run_claimed(claimed)
            _log.info("job.left", end=end, seconds=round(time.monotonic() - began, 3))
        except Exception:
            # The end could not be written, so the lease expires and a reconciler repairs the job.
            _log.exception("job.left_to_its_lease")
        finally:
            structlog.contextvars.unbind_contextvars("job_id")

    def _run_claimed(self, claimed: ClaimedJob) -> str:
        service, context = self._context.service, self._context
        # Jobs of this queue take long, and a training saves its state.
        leave = context.draining if claimed.kind.queue is Queue.TRAIN else context.halted
        with Heartbeat(service, claimed, leave=leave, broken=context.broken) as heartbeat:
            try:
                if self._work[claimed.kind](context, claimed, heartbeat):
                    return "succeeded"
                # The row refused the result: the job is cancelled, or another worker has it.
                heartbeat.check()
                return self._cancelled(claimed)
            except CancelRequested:
                return self._cancelled(claimed)
            except Draining:
                return self._released(claimed, delay_seconds=0, spend_attempt=False)
            except LeaseLost:
                # Another worker has the job by now, or the job has ended and the answer was lost.
                return _LOST
            except (Unavailable, LeaseNotRenewed, OfNewerRelease) as error:
                problem_slug = error.slug if isinstance(error, Unavailable) else _slug(error)
                _log.warning("job.infrastructure_fault", problem=problem_slug)
                delay_seconds = _FAULT_DELAY_SECONDS * 2 ** min(claimed.faults, _MOST_DOUBLINGS)
                return self._released(claimed, delay_seconds=delay_seconds, spend_attempt=False)
            except Exception as error:
                if is_broken(error):
                    _log.critical("device.broken", exc_info=True)
                    context.broken.set()
                    return self._released(claimed, delay_seconds=0, spend_attempt=True)
                answer = explain(error)
                out_of_memory = is_out_of_memory(error)
            if out_of_memory:
                # Memory is freed after the handler, because the error refers to the frames that
                # hold the memory.
                free_memory()
            return self._failed(claimed, answer)

    def _cancelled(self, claimed: ClaimedJob) -> str:
        held = self._retry_while_unavailable(
            lambda: leases.cancelled(self._context.service, claimed)
        )
        return "cancelled" if held else _LOST

    def _released(self, claimed: ClaimedJob, *, delay_seconds: float, spend_attempt: bool) -> str:
        held = self._retry_while_unavailable(
            lambda: leases.release(
                self._context.service,
                claimed,
                delay_seconds=delay_seconds,
                spend_attempt=spend_attempt,
            )
        )
        return "released" if held else _LOST

    def _failed(self, claimed: ClaimedJob, answer: dict[str, str]) -> str:
        held = self._retry_while_unavailable(
            lambda: leases.fail(self._context.service, claimed, problem=answer)
        )
        return "failed" if held else _LOST

    def _retry_while_unavailable(self, write: Callable[[], bool]) -> bool:
        """Repeat a write while the database is unavailable: a lost write costs the job an attempt.

        While the database is unavailable no other job can be claimed, so waiting costs nothing
        until the process stops.
        """
        while True:
            try:
                return write()
            except Unavailable:
                if self._context.halted.wait(_RETRY_SECONDS):
                    raise


def explain(error: Exception) -> dict[str, str]:
    """Return the problem that the job's owner reads; of an unexpected error, only an id.

    The traceback of an unexpected error goes to the log, with the id that the owner reads.
    """
    if isinstance(error, (PerfusionError, WorkerError)):
        _log.info("job.failed", error=type(error).__name__)
        return problem(_slug(error), str(error))
    if is_out_of_memory(error):
        _log.warning("job.out_of_memory")
        return problem(
            "out-of-memory",
            "The device's memory does not suffice for this job. For a training, lower "
            "train_batch_size or resolution; for images, width and height.",
        )
    report = uuid.uuid4().hex[:12]
    _log.error("job.unexpected_error", report=report, exc_info=error)
    return problem(
        "internal",
        f"Something went wrong inside the worker, and it is not your request's fault. Ask the "
        f"operator of this service, and name the report {report}.",
    )


def _slug(error: Exception) -> str:
    """Return the slug of an error: ConceptFileError is `concept-file`."""
    name = type(error).__name__.removesuffix("Error")
    return "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-")


def _work_on_the_device() -> Mapping[JobKind, Work]:
    # These modules are imported here, because they load torch.
    from worker.jobs.generate import generate_images
    from worker.jobs.inspect import inspect_upload
    from worker.jobs.judgement import judge_concept
    from worker.jobs.train import train_concept

    return {
        JobKind.TRAIN: train_concept,
        JobKind.GENERATE: generate_images,
        JobKind.JUDGE: judge_concept,
        JobKind.INSPECT: inspect_upload,
    }
