"""The payloads in jobs' rows, by which the API tells a worker its work; both sides use this module.

A reader ignores unknown keys, so a release may add keys. A release that changes the meaning of
payloads writes them with a higher version; workers of earlier releases then do not touch these
jobs. While two releases run next to each other, the earlier release reads the payloads that the
later release writes. So a release may remove a key only when no running release reads the key.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

VERSION: Final = 1
"""The version of the payloads that every release with versions reads in the same way."""
NEWEST_VERSION: Final = 2
"""The version of generations that earlier releases would get wrong: edits and sweeps."""
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
        if upgraded["version"] > NEWEST_VERSION:
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
    # x, y, width, height in pixels of the stored picture; None: the training chooses.
    crop: tuple[int, int, int, int] | None = None


class TrainPayload(_Payload):
    """A training: the requested options, which override the registered base model's defaults.

    Options missing under `training` take the defaults of the worker's own model.
    """

    name: str
    superclass: str
    pictures: tuple[TrainingPicture, ...]
    training: dict[str, Any]
    replace: Replace = DEFAULT_REPLACE


class JudgePayload(_Payload):
    """A judgement: the file of the concept to measure, which the job's row names."""

    name: str
    blob_key: str
    sha256: str


class PromptedConcept(_Frozen):
    """A concept in a prompt: the concept's file when the request was accepted, and the gate."""

    id: str
    name: str
    sha256: str
    blob_key: str
    beta: float
    tau: float


class EditPayload(_Frozen):
    """The picture that an edit starts from, and the part of the picture that is painted anew.

    The picture is the uploaded one under `picture_key`, or the owner's generated image `image_id`.
    `mask_key`, `boxes` or `subject` says what is painted anew; without all three it is the whole
    picture. `options` are the fields of EditConfig that the request sets.
    """

    picture_key: str | None = None
    image_id: str | None = None
    mask_key: str | None = None
    boxes: tuple[tuple[int, int, int, int], ...] = ()  # x, y, width, height in pixels
    subject: str | None = None
    options: dict[str, Any] = {}
    size_bytes: int = 0  # of the stored picture and mask


class SweepPayloadAxis(_Frozen):
    """An axis of a sweep: the field that it varies, and the field's values."""

    field: str
    values: tuple[int | float | str, ...]


class SweepPayload(_Frozen):
    """A sweep: its axes (columns, then rows), and the gates of each cell, row by row.

    A cell's gates are beta and tau by the concept's name. A cell uses no other concepts.
    """

    axes: tuple[SweepPayloadAxis, ...]
    gates: tuple[dict[str, tuple[float, float]], ...]


class GeneratePayload(_Payload):
    """A generation: the requested options, which override the registered base model's defaults.

    `config` always has a seed; options missing under `config` take the defaults of the worker's own
    model. Of a sweep, `concepts` has the concepts of all cells, and the other fields are those of
    the first cell; cells.py makes the others from `sweep`.
    """

    prompt: str
    concepts: tuple[PromptedConcept, ...]
    config: dict[str, Any]
    attention_maps: bool = False
    edit: EditPayload | None = None
    sweep: SweepPayload | None = None

    def to_row(self) -> dict[str, Any]:
        """Return the payload as the row stores it; newer meanings only for workers that know."""
        plain = self.edit is None and self.sweep is None
        version = VERSION if plain else NEWEST_VERSION
        return {**super().to_row(), "version": version}


class PictureToInspect(_Frozen):
    """The blob keys of an uploaded picture and its mask, and the picture's size when uploaded."""

    blob_key: str
    mask_key: str | None
    uploaded_size: tuple[int, int]  # width and height in pixels, before it was shrunk


class InspectPayload(_Payload):
    """An inspection of pictures; `superclass` says what a segmenter looks for in them."""

    pictures: tuple[PictureToInspect, ...]
    superclass: str | None
    size_bytes: int  # of the stored pictures and masks
