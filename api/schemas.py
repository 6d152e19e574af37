"""The JSON that enters and leaves, as OpenAPI shows it.

What enters is validated by these models: strict types, no unknown field, every number bounded. The
hyper-parameters are not written here; they are read off the dataclasses in
`perfusion_core.config`, with their bounds, defaults and descriptions. What leaves is written by
`service.views.to_json`; a test holds it against the models below.
"""

from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model, model_validator
from pydantic.fields import FieldInfo

from api.image_schemas import Image, JobWarning
from api.image_schemas import Outbound as _Outbound
from perfusion_core.config import GenerateConfig, TrainConfig
from perfusion_core.text.prompt import NAME_PATTERN
from service.generations.strengths import MAX_CONCEPTS
from service.options import whole_numbers
from service.validation import MAX_PROMPT_LENGTH
from service.views import ConceptStatus, JobKind, JobStatus

ConceptName = Annotated[
    str,
    StringConstraints(pattern=f"^{NAME_PATTERN}$", max_length=63),
    Field(description="The concept's name; `<name>` is its placeholder.", examples=["rex"]),
]
Identifier = Annotated[str, StringConstraints(min_length=1, max_length=64)]
ConceptRef = Annotated[str, Path(description="The concept's id or name.")]


class _Inbound(BaseModel):
    """What a caller sends: strict, closed, finite."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _take_whole_numbers(cls, given: Any) -> Any:
        return whole_numbers(given) if isinstance(given, dict) else given


def _config_fields(config: type[Any]) -> dict[str, tuple[Any, FieldInfo]]:
    """The fields of a config dataclass, for a model of our own."""
    infos: Mapping[str, FieldInfo] = config.__pydantic_fields__
    names = [each.name for each in dataclass_fields(config)]
    return {name: (infos[name].annotation, infos[name]) for name in names}


if TYPE_CHECKING:

    class TrainingOptions(_Inbound):
        """The fields of TrainConfig, which a type checker cannot see."""

else:
    TrainingOptions = create_model(
        "TrainingOptions",
        __base__=_Inbound,
        __doc__="Training options. What is left out takes the base model's own default.",
        **_config_fields(TrainConfig),
    )


class TrainAgainRequest(TrainingOptions):
    """Training options for another training, and whether its file replaces the one before.

    What is left out takes the base model's own default.
    """

    replace: Annotated[
        Literal["if-better", "always"],
        Field(
            description="`if-better`: the new file replaces the old one where that is of another "
            "base model, where its verdict is better (`good` above the others), or where verdicts "
            "are equal and the balance at its recommended strength is higher or was measured in "
            "another way; without an evaluator it always does."
        ),
    ] = "if-better"


class ConceptUse(_Inbound):
    """How one concept enters an image; its values win over the prompt's."""

    name: ConceptName | None = None
    id: Annotated[Identifier | None, Field(description="Instead of `name`.")] = None
    strength: Annotated[
        float | None, Field(gt=0, lt=1, description="The gate's value at the concept itself.")
    ] = None
    beta: Annotated[
        float | None,
        Field(
            ge=-10,
            le=10,
            description="The gate's bias, from 0.9 (faint) to 0.3 (strong); not with `strength`.",
        ),
    ] = None
    tau: Annotated[
        float | None,
        Field(gt=0, le=10, description="The gate's temperature; only with `beta`."),
    ] = None


class _Prompted(_Inbound):
    prompt: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_PROMPT_LENGTH,
            description="The scene; concepts by placeholder, `<name>`, or `<name:0.9>` with a "
            "strength.",
            examples=["a photo of <teddy> next to <rex>"],
        ),
    ]
    concepts: Annotated[
        tuple[ConceptUse, ...],
        Field(
            max_length=MAX_CONCEPTS,
            strict=False,
            description="Explicit values; they win over `prompt`. Without any, local locking takes "
            "a concept's recommended strength (else beta 0.7), global locking beta 0.5.",
        ),
    ] = ()
    attention_maps: Annotated[
        bool,
        Field(description="Also tell where each word acts; the images stay the same, bit by bit."),
    ] = False


if TYPE_CHECKING:

    class GenerateRequest(_Prompted):
        """The fields of GenerateConfig, which a type checker cannot see."""

else:
    GenerateRequest = create_model(
        "GenerateRequest",
        __base__=_Prompted,
        __doc__="What to generate. What is left out takes the base model's own default.",
        **_config_fields(GenerateConfig),
    )


class Progress(_Outbound):
    """How far a job is."""

    step: int
    total_steps: int
    seconds_per_step: float | None
    eta_seconds: float | None


class FieldProblem(_Outbound):
    """One wrong field: where it is, and the rule it breaks."""

    pointer: Annotated[str, Field(description="A JSON pointer, e.g. `/concepts/0/strength`.")]
    detail: str


class Problem(_Outbound):
    """RFC 9457. `type` leads to what to do about it; docs/errors.md lists them all."""

    type: str
    title: str
    detail: str
    status: int | None = None
    instance: str | None = None
    request_id: str | None = None
    errors: list[FieldProblem] | None = None


class Job(_Outbound):
    """A training or a generation, from its acceptance to its end."""

    id: str
    kind: JobKind
    status: JobStatus
    progress: Progress
    queue_position: Annotated[
        int | None,
        Field(description="1 starts next; 1000: there or behind; null: not waiting."),
    ]
    attempt: int
    concept_id: str | None
    images: list[Image]
    error: Problem | None
    warnings: Annotated[
        list[JobWarning], Field(description="Known as soon as the job runs, and kept.")
    ]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class BaseModelRef(_Outbound):
    """The base model that a concept belongs to."""

    name: str
    fingerprint: str


class Verdict(_Outbound):
    """Whether a concept works: `weak` is hardly there, `overfit` repeats its pictures.

    `uncalibrated`: not known here. Treat a word that you do not know as `uncalibrated`.
    """

    quality: Literal["good", "weak", "overfit", "uncalibrated"]
    reasons: Annotated[list[str], Field(description="Sentences: what was seen, what to do.")]


class Concept(_Outbound):
    """A subject that the base model has learned, or is learning."""

    id: str
    name: str
    placeholder: Annotated[str, Field(examples=["<rex>"])]
    superclass: str
    status: ConceptStatus
    usable: Annotated[bool, Field(description="Whether a prompt can use it now.")]
    reason: Annotated[
        str | None, Field(description="Why not, and what to do; null where it is usable.")
    ]
    base_model: BaseModelRef | None
    covariance_fingerprint: str | None
    bytes: int | None
    sha256: str | None
    mask_source: Literal["upload", "alpha", "segmenter", "uniform"] | None
    training: dict[str, Any]
    created_at: datetime
    ready_at: datetime | None
    job_id: str | None
    revision: Annotated[
        int, Field(description="Counts the files: 1 is the first; a revert counts too.")
    ] = 1
    has_file_before: Annotated[
        bool, Field(description="Whether `POST /concepts/{ref}/revert` has a file to go back to.")
    ] = False
    verdict: Annotated[
        Verdict | None, Field(description="By its operating curve; null where it has none.")
    ] = None
    recommended_strength: Annotated[
        float | None, Field(description="The best balance of pictures and prompt.")
    ] = None


class ConceptAccepted(_Outbound):
    """The concept that will be, and the job that trains it."""

    concept: Concept
    job: Job


class JobAnswer(_Outbound):
    """A job in an envelope."""

    job: Job


class ConceptPage(_Outbound):
    """One page of concepts, newest first."""

    items: list[Concept]
    next_cursor: str | None


class JobPage(_Outbound):
    """One page of jobs, newest first."""

    items: list[Job]
    next_cursor: str | None


class BaseModelInfo(_Outbound):
    """The base model that the workers serve, with its own defaults and every bound."""

    name: str
    family: str
    fingerprint: str
    covariance_fingerprint: str
    resolution: Annotated[dict[str, int] | None, Field(description="Width and height in pixels.")]
    max_pixels: Annotated[
        dict[str, int] | None,
        Field(
            description="`generate`: the most of width times height. `train`: the most of "
            "train_batch_size times resolution squared."
        ),
    ]
    defaults: dict[str, dict[str, Any]]
    bounds: dict[str, dict[str, Any]]


class Health(_Outbound):
    """The process is alive."""

    status: Literal["ok"]


class Readiness(_Outbound):
    """Everything that a request needs is there."""

    status: Literal["ready"]
    checks: dict[str, bool]
    warnings: list[str] = Field(
        description="Sentences for the operator: what needs attention but stops no request."
    )
