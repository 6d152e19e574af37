"""Parses a job's payload and options with the fields that this release knows.

The service has already checked payload and options. If this worker refuses a job's payload or
options, a newer release accepted the job during an upgrade. The job then rests until a newer worker
claims the job.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from perfusion_core.config import BaseModelDefaults, EditConfig, GenerateConfig, TrainConfig
from service.jobs.lease_types import ClaimedJob
from service.jobs.payloads import (
    GeneratePayload,
    InspectPayload,
    JudgePayload,
    NewerPayload,
    TrainPayload,
)
from worker.errors import OfNewerRelease


def generate_payload(claimed: ClaimedJob) -> GeneratePayload:
    """Return the payload of a generation, or raise OfNewerRelease."""
    with _known_here():
        return GeneratePayload.read(claimed.payload)


def train_payload(claimed: ClaimedJob) -> TrainPayload:
    """Return the payload of a training, or raise OfNewerRelease."""
    with _known_here():
        return TrainPayload.read(claimed.payload)


def judge_payload(claimed: ClaimedJob) -> JudgePayload:
    """Return the payload of a judgement, or raise OfNewerRelease."""
    with _known_here():
        return JudgePayload.read(claimed.payload)


def inspect_payload(claimed: ClaimedJob) -> InspectPayload:
    """Return the payload of an inspection, or raise OfNewerRelease."""
    with _known_here():
        return InspectPayload.read(claimed.payload)


def generate_config(defaults: BaseModelDefaults, options: Mapping[str, Any]) -> GenerateConfig:
    """Return the options of a generation, or raise OfNewerRelease."""
    with _known_here():
        return defaults.generate_config(options)


def edit_config(options: Mapping[str, Any]) -> EditConfig:
    """Return the options of an edit, or raise OfNewerRelease."""
    with _known_here():
        return EditConfig(**options)


def train_config(defaults: BaseModelDefaults, options: Mapping[str, Any]) -> TrainConfig:
    """Return the options of a training, or raise OfNewerRelease."""
    with _known_here():
        return defaults.train_config(options)


@contextmanager
def _known_here() -> Iterator[None]:
    try:
        yield
    except (NewerPayload, ValidationError) as error:
        raise OfNewerRelease from error
