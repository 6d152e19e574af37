"""Kinds and statuses of jobs and concepts: the words that rows, views and workers share."""

from enum import StrEnum


class JobKind(StrEnum):
    """What a job does; also the name of the queue that its messages go to."""

    TRAIN = "train"
    GENERATE = "generate"


class JobStatus(StrEnum):
    """Where a job is. The last three are final."""

    QUEUED = "queued"  # accepted; waits for a worker
    RUNNING = "running"  # one worker holds its lease
    SUCCEEDED = "succeeded"  # its result is there
    FAILED = "failed"  # `error` says why
    CANCELLED = "cancelled"  # its owner asked for it


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


class ConceptStatus(StrEnum):
    """Whether a concept can be used."""

    TRAINING = "training"  # its job is queued or running
    READY = "ready"  # the only state that a prompt may use
    FAILED = "failed"
    CANCELLED = "cancelled"
