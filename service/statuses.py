"""Kinds and statuses of jobs and concepts, which rows, views and workers share."""

from enum import StrEnum


class JobKind(StrEnum):
    """The kind of a job; also the name of the queue for its messages."""

    TRAIN = "train"
    GENERATE = "generate"


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
