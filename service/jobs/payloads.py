"""The payloads in jobs' rows, by which the API tells a worker its work; both sides use this module.

A reader ignores unknown keys, so a release may add keys. A release that changes the meaning of
payloads must raise VERSION; workers of earlier releases then do not touch the jobs of the new
release. While two releases run next to each other, the earlier release reads the payloads that the
later release writes. So a release may remove a key only when no running release reads the key.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

VERSION: Final = 1
Replace = Literal["if-better", "always"]
DEFAULT_REPLACE: Final[Replace] = "if-better"


class NewerPayload(Exception):
    """The payload was written by a newer release, so its meaning is unknown."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Payload(_Frozen):
    version: int = VERSION

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """Return the payload in a row; raise NewerPayload if a newer release wrote it."""
        upgraded = _upgraded(stored)
        if upgraded["version"] > VERSION:
            raise NewerPayload
        try:
            return cls.model_validate(upgraded)
        except ValidationError as error:
            raise NewerPayload from error

    def to_row(self) -> dict[str, Any]:
        """Return the payload as the row stores it, JSON-ready."""
        return self.model_dump(mode="json")


def _upgraded(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a payload of an earlier release in the form of this release."""
    # Payloads without a version mean the same; they only contain a few more keys, never read.
    return stored if "version" in stored else {**stored, "version": 1}


class TrainingPicture(_Frozen):
    """The blob keys of a picture to train on and of the picture's mask, if any."""

    blob_key: str
    mask_key: str | None


class TrainPayload(_Payload):
    """A training: the requested options, which override the registered base model's defaults.

    Options missing under `training` take the defaults of the worker's own model.
    """

    name: str
    superclass: str
    pictures: tuple[TrainingPicture, ...]
    training: dict[str, Any]
    replace: Replace = DEFAULT_REPLACE


class PromptedConcept(_Frozen):
    """A concept in a prompt: the concept's file when the request was accepted, and the gate."""

    id: str
    name: str
    sha256: str
    blob_key: str
    beta: float
    tau: float


class GeneratePayload(_Payload):
    """A generation: the requested options, which override the registered base model's defaults.

    `config` always has a seed; options missing under `config` take the defaults of the worker's own
    model.
    """

    prompt: str
    concepts: tuple[PromptedConcept, ...]
    config: dict[str, Any]
    attention_maps: bool = False
