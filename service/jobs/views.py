"""Views of jobs, and of the images that jobs generate."""

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field

from service.errors import Problem
from service.jobs.requested import Requested
from service.statuses import TERMINAL, JobKind, JobStatus, Phase
from service.views import View, is_none

SignedUrl = Annotated[
    str | None,
    Field(
        description="The same for 10 to 15 minutes without a key, such as for an `<img>`.",
        exclude_if=is_none,
    ),
]


class ProgressView(View):
    """How far a job is."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    step: int
    total_steps: int
    seconds_per_step: float | None = None
    eta_seconds: Annotated[
        float | None,
        Field(
            description="The seconds until the job's end, with all evaluations and the final "
            "judgement; null: not running or unknown."
        ),
    ] = None
    phase: Annotated[
        Phase | None, Field(description="What the job does now; null: not running or unknown.")
    ] = None


class AttentionMapView(View):
    """The place where a word of the prompt acted in an image; `url` gives the map as a PNG."""

    word: Annotated[str, Field(examples=["<rex>", "beach"])]
    concept_id: Annotated[str | None, Field(description="The concept of a placeholder; else null.")]
    coverage: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="The share of the image from which the word gets more than a fifth of "
            "the attention that is left after the begin token's.",
        ),
    ]
    url: str
    signed_url: SignedUrl = None


class PresenceView(View):
    """Says whether a concept of the prompt is visible in an image."""

    concept_id: str
    name: str
    score: Annotated[
        float,
        Field(description="The mean cosine to the concept's pictures of the most similar window."),
    ]
    present: Annotated[
        bool, Field(description="Whether `score` is high enough, by the concept's curve.")
    ]


class ImageView(View):
    """A generated image; `url` gives the PNG."""

    id: str
    url: str
    thumbnail_url: Annotated[str, Field(description="A WebP of at most 256 pixels a side.")]
    seed: int
    width: Annotated[int, Field(description="Pixels.")]
    height: Annotated[int, Field(description="Pixels.")]
    cell: Annotated[
        tuple[int, int] | None,
        Field(description="Column and row in a sweep, from 0; null: the job is no sweep."),
    ]
    attention_maps: Annotated[
        tuple[AttentionMapView, ...] | None,
        Field(description="In the prompt's order; null: the request did not ask for maps."),
    ]
    presence: Annotated[
        tuple[PresenceView, ...] | None,
        Field(description="Of each concept that has a curve; null: nothing could be measured."),
    ]
    signed_url: SignedUrl = None
    signed_thumbnail_url: SignedUrl = None


class FindingView(View):
    """Something about a picture that makes a training worse, and what to do about it."""

    code: Annotated[str, Field(examples=["blurred", "near-duplicate"])]
    detail: str
    remedy: str


class InspectedPictureView(View):
    """What an inspection found in a picture; `mask_url` gives the chosen mask as a PNG."""

    index: Annotated[int, Field(description="The picture's place in the request, from 0.")]
    findings: tuple[FindingView, ...]
    crop: Annotated[
        tuple[int, int, int, int],
        Field(
            description="What a training would see of the picture: x, y, width and height in "
            "pixels of the upright uploaded picture. `POST /concepts` takes it in `crops`."
        ),
    ]
    mask_source: Annotated[str, Field(examples=["upload", "alpha", "segmenter", "uniform"])]
    mask_url: Annotated[str | None, Field(description="Null: the mask is uniform.")]
    signed_mask_url: SignedUrl = None


class NamedConcept(View):
    """A concept as named in a warning."""

    id: str
    name: str


class JobWarning(View):
    """A problem that does not stop the job; docs/errors.md says what to do about each `type`."""

    type: str
    title: str
    detail: str
    concepts: Annotated[
        tuple[NamedConcept, ...], Field(description="The concepts that the warning concerns.")
    ]


class JobView(View):
    """A job of any kind, from its acceptance to its end."""

    id: str
    kind: JobKind
    status: JobStatus
    progress: ProgressView
    queue_position: Annotated[
        int | None,
        Field(description="1: starts next; 1000: 1000th or later; null: not queued."),
    ]
    attempt: int
    concept_id: str | None
    images: tuple[ImageView, ...]
    pictures: Annotated[
        tuple[InspectedPictureView, ...] | None,
        Field(description="What an inspection found; null: the job is no finished inspection."),
    ]
    error: Problem | None
    warnings: Annotated[
        tuple[JobWarning, ...], Field(description="Known as soon as the job runs, and kept.")
    ]
    request: Annotated[
        Requested | None,
        Field(
            description="What was asked for, with every default filled in; null: a newer release "
            "accepted the job."
        ),
    ]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    # Increases with every write to the row: the id of a server-sent event, not part of the JSON.
    version: Annotated[int, Field(exclude=True)] = 0

    @property
    def finished(self) -> bool:
        """Return whether the status is final."""
        return self.status in TERMINAL


class EventPreviews(View):
    """What an event of a running generation carries if a follower asks for previews."""

    preview: Annotated[
        str,
        Field(description="The first unfinished image: a JPEG as a data URL of less than 16 KiB."),
    ]
    previews: Annotated[
        tuple[str | None, ...],
        Field(
            description="One for each image of the job, in the order of `images`: a small JPEG as "
            "a data URL of less than 3 KiB; null: not being sampled. At most 16 are not null."
        ),
    ]


class JobAnswer(View):
    """A job as the only field of an answer."""

    job: JobView
