"""What a job was asked for, with every default filled in; one view for each kind of job.

The views are made from the jobs' payloads, so jobs of earlier releases have them too.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, create_model

from perfusion_core.config import EditConfig, GenerateConfig, TrainConfig
from perfusion_core.strength import STRENGTH_DIGITS, strength_from_beta
from service.database.tables import JobRow
from service.jobs.payloads import (
    EditPayload,
    GeneratePayload,
    InspectPayload,
    JudgePayload,
    NewerPayload,
    PromptedConcept,
    SweepPayload,
    TrainPayload,
)
from service.options import fields_of
from service.statuses import JobKind
from service.views import View


class RequestedConcept(View):
    """A concept of a request, and the gate that was used."""

    id: str
    name: str
    strength: Annotated[
        float, Field(description="The gate's value at the concept itself, by `beta` and `tau`.")
    ]
    beta: float
    tau: float


class RequestedSweepAxis(View):
    """An axis of a sweep."""

    field: Annotated[str, Field(examples=["beta:rex", "seed"])]
    values: tuple[int | float | str, ...]


class RequestedSweep(View):
    """A sweep: its columns, and its rows if there are two axes."""

    axes: tuple[RequestedSweepAxis, ...]


class RequestedEdit(View):
    """What an edit starts from, and what it paints anew. The picture itself is not part of it."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    image_id: Annotated[
        str | None, Field(description="The generated image it starts from; null: an upload.")
    ]
    mask: Annotated[
        Literal["upload", "boxes", "subject"] | None,
        Field(description="What says what is painted anew; null: the whole picture changes."),
    ]
    boxes: tuple[tuple[int, int, int, int], ...]
    subject: str | None
    denoising_strength: float
    mask_feather: int
    mask_margin: int
    keep_background: bool


class _Requested(View):
    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


if TYPE_CHECKING:

    class _GenerationOptions(_Requested):
        """The fields of GenerateConfig, which a type checker cannot see."""

    class _TrainingOptions(_Requested):
        """The fields of TrainConfig, which a type checker cannot see."""

else:
    _GenerationOptions = create_model(
        "_GenerationOptions", __base__=_Requested, **fields_of(GenerateConfig)
    )
    _TrainingOptions = create_model(
        "RequestedTraining",
        __base__=_Requested,
        __doc__="The options of a training.",
        **fields_of(TrainConfig),
    )


class GenerationRequested(_GenerationOptions):
    """What a generation was asked for. Of a sweep, these are the values of its first cell."""

    kind: Literal["generate"] = "generate"
    prompt: str
    concepts: Annotated[
        tuple[RequestedConcept, ...],
        Field(description="Of a sweep: the concepts of all cells, with their first gates."),
    ]
    attention_maps: bool
    sweep: Annotated[
        RequestedSweep | None, Field(description="How the other cells differ; null: no sweep.")
    ]
    edit: Annotated[RequestedEdit | None, Field(description="Null: no edit.")]


class TrainingRequested(_Requested):
    """What a training was asked for."""

    kind: Literal["train"] = "train"
    name: str
    superclass: str
    pictures: Annotated[int, Field(description="The number of pictures.")]
    training: _TrainingOptions
    replace: str


class InspectionRequested(_Requested):
    """What a check of pictures was asked for."""

    kind: Literal["inspect"] = "inspect"
    pictures: Annotated[int, Field(description="The number of pictures.")]
    superclass: str | None


class JudgementRequested(_Requested):
    """What a judgement was asked for."""

    kind: Literal["judge"] = "judge"
    name: Annotated[str, Field(description="The concept's name.")]


Requested = Annotated[
    GenerationRequested | TrainingRequested | InspectionRequested | JudgementRequested,
    Field(discriminator="kind"),
]


def request_of(job: JobRow) -> Requested | None:
    """Return what a job was asked for; None if a newer release accepted the job."""
    return _request_of(_StoredPayload(job.id, job.kind, job.payload))


@dataclass(frozen=True)
class _StoredPayload:
    """A payload, which never changes: two of one job are equal."""

    job_id: str
    kind: JobKind
    payload: dict[str, Any] = field(compare=False)


# Clients that follow jobs ask for the same ones again and again. Without the cache, requests take a
# sixth of the CPU of a list of jobs.
@lru_cache(maxsize=1024)
def _request_of(stored: _StoredPayload) -> Requested | None:
    payload = stored.payload
    try:
        match stored.kind:
            case JobKind.GENERATE:
                return _generation(GeneratePayload.read(payload))
            case JobKind.TRAIN:
                return _training(TrainPayload.read(payload))
            case JobKind.INSPECT:
                inspected = InspectPayload.read(payload)
                return InspectionRequested(
                    pictures=len(inspected.pictures), superclass=inspected.superclass
                )
            case JobKind.JUDGE:
                return JudgementRequested(name=JudgePayload.read(payload).name)
    except (NewerPayload, ValidationError):
        return None


def _generation(payload: GeneratePayload) -> GenerationRequested:
    return GenerationRequested(
        **payload.config,
        prompt=payload.prompt,
        concepts=tuple(_concept(concept) for concept in payload.concepts),
        attention_maps=payload.attention_maps,
        sweep=None if payload.sweep is None else _sweep(payload.sweep),
        edit=None if payload.edit is None else _edit(payload.edit),
    )


def _concept(concept: PromptedConcept) -> RequestedConcept:
    return RequestedConcept(
        id=concept.id,
        name=concept.name,
        strength=round(strength_from_beta(concept.beta, concept.tau), STRENGTH_DIGITS),
        beta=concept.beta,
        tau=concept.tau,
    )


def _sweep(sweep: SweepPayload) -> RequestedSweep:
    axes = (RequestedSweepAxis(field=axis.field, values=axis.values) for axis in sweep.axes)
    return RequestedSweep(axes=tuple(axes))


def _edit(edit: EditPayload) -> RequestedEdit:
    mask: Literal["upload", "boxes", "subject"] | None = None
    if edit.mask_key is not None:
        mask = "upload"
    elif edit.boxes:
        mask = "boxes"
    elif edit.subject is not None:
        mask = "subject"
    config = EditConfig(**edit.options)
    return RequestedEdit(
        image_id=edit.image_id,
        mask=mask,
        boxes=edit.boxes,
        subject=edit.subject,
        denoising_strength=config.strength(masked=mask is not None),
        mask_feather=config.mask_feather,
        mask_margin=config.mask_margin,
        keep_background=config.keep_background,
    )


def _training(payload: TrainPayload) -> TrainingRequested:
    return TrainingRequested(
        name=payload.name,
        superclass=payload.superclass,
        pictures=len(payload.pictures),
        training=_TrainingOptions(**payload.training),
        replace=payload.replace,
    )
