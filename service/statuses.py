"""Kinds, queues and statuses of jobs, concepts, webhooks and workers, which the packages share."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from service.views import View


class Queue(StrEnum):
    """A queue of jobs. A worker listens to some queues, and takes jobs of every kind from them."""

    TRAIN = "train"
    GENERATE = "generate"


class JobKind(StrEnum):
    """The kind of a job."""

    TRAIN = "train"
    GENERATE = "generate"
    INSPECT = "inspect"
    JUDGE = "judge"

    @property
    def queue(self) -> Queue:
        """The queue in which jobs of this kind wait."""
        return _QUEUES[self]


_QUEUES = {
    JobKind.TRAIN: Queue.TRAIN,
    JobKind.GENERATE: Queue.GENERATE,
    JobKind.INSPECT: Queue.GENERATE,
    JobKind.JUDGE: Queue.TRAIN,
}


class Phase(StrEnum):
    """What a running job does."""

    LOADING = "loading"
    PREPARING = "preparing"
    TRAINING = "training"
    EVALUATING = "evaluating"
    SAMPLING = "sampling"
    SAVING = "saving"


class JobStatus(StrEnum):
    """The status of a job. The last three are final."""

    QUEUED = "queued"  # accepted; waits for a worker
    RUNNING = "running"  # one worker holds its lease
    SUCCEEDED = "succeeded"  # its result is stored
    FAILED = "failed"  # `error` gives the reason
    CANCELLED = "cancelled"  # its owner cancelled it


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


class ConceptStatus(StrEnum):
    """The status of a concept: whether it can be used."""

    TRAINING = "training"  # its job is queued or running
    READY = "ready"  # the only state that a prompt may use
    FAILED = "failed"
    CANCELLED = "cancelled"


class WebhookState(StrEnum):
    """The state of a webhook. Only a waiting one is sent, once its job has ended."""

    WAITING = "waiting"
    DELIVERED = "delivered"  # the receiver has answered 2xx
    FAILED = "failed"  # every attempt failed, or the receiver has answered 410


class LoadingPhase(StrEnum):
    """What a worker does before it takes jobs."""

    FETCHING = "fetching"  # downloads a model
    LOADING = "loading"  # reads a model into memory
    ESTIMATING = "estimating"  # estimates the covariance of a base model
    FAILED = "failed"  # waits, and tries again


class LoadingState(View):
    """How far a worker has loaded its models."""

    phase: LoadingPhase
    detail: Annotated[str, Field(description="A sentence for people.")]
    progress: Annotated[
        float | None,
        Field(description="The part of the phase that is done, 0 to 1; null: unknown."),
    ] = None


class LoadingWorker(LoadingState):
    """A worker that takes no jobs yet."""

    id: str
