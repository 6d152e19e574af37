"""What a job's row keeps for the worker; the same classes write it and read it.

A key that a reader does not know is ignored, so a release may add keys. A release whose payloads
mean something else raises VERSION, and a worker of an earlier one leaves its jobs to it. While two
releases run side by side the earlier one reads what the later one writes: keys stay until no
release reads them any more.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

VERSION: Final = 1
Replace = Literal["if-better", "always"]
DEFAULT_REPLACE: Final[Replace] = "if-better"


class NewerPayload(Exception):
    """Only a newer release knows what this payload says."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Payload(_Frozen):
    version: int = VERSION

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """Return what a row keeps; raise NewerPayload where only a newer release knows it."""
        upgraded = _upgraded(stored)
        if upgraded["version"] > VERSION:
            raise NewerPayload
        try:
            return cls.model_validate(upgraded)
        except ValidationError as error:
            raise NewerPayload from error

    def to_row(self) -> dict[str, Any]:
        """Return what the row keeps, JSON-ready."""
        return self.model_dump(mode="json")


def _upgraded(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a payload of an earlier release in the form of this one."""
    # Before there were versions a payload said the same, and some things that were never read.
    return stored if "version" in stored else {**stored, "version": 1}


class TrainingPicture(_Frozen):
    """A picture to train on, and its mask if it has one, by their blobs' keys."""

    blob_key: str
    mask_key: str | None


class TrainPayload(_Payload):
    """A training: what was asked for over the registered base model's defaults.

    The worker puts its own model's defaults under `training`.
    """

    name: str
    superclass: str
    pictures: tuple[TrainingPicture, ...]
    training: dict[str, Any]
    replace: Replace = DEFAULT_REPLACE


class PromptedConcept(_Frozen):
    """A concept of a prompt: the file that it had when the request was accepted, and its gate."""

    id: str
    name: str
    sha256: str
    blob_key: str
    beta: float
    tau: float


class GeneratePayload(_Payload):
    """A generation: what was asked for over the registered base model's defaults.

    `config` always has a seed; the worker puts its own model's defaults under it.
    """

    prompt: str
    concepts: tuple[PromptedConcept, ...]
    config: dict[str, Any]
    attention_maps: bool = False
