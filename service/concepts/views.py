"""Concepts and their operating curves, as their owner sees them."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from perfusion_core.evaluation.verdict import Quality, Verdict
from service.jobs.views import JobView, SignedUrl
from service.statuses import ConceptStatus
from service.views import View

MAX_DESCRIPTION_LENGTH = 2000
MASK_SOURCES = ("upload", "alpha", "segmenter", "uniform")
# Any text, because a worker of a newer release may have noted another source.
_MaskSource = Annotated[str, WithJsonSchema({"enum": list(MASK_SOURCES), "type": "string"})]


class BaseModelRef(View):
    """The base model that a concept belongs to."""

    name: str
    fingerprint: str


class VerdictView(View):
    """Says whether a concept works: `weak` is barely visible, `overfit` repeats its pictures.

    `uncalibrated`: the verdict is not known here. Treat a word that you do not know as
    `uncalibrated`.
    """

    quality: Quality
    reasons: Annotated[
        tuple[str, ...], Field(description="Sentences: the findings, and what to do.")
    ]

    @classmethod
    def of(cls, judged: Verdict) -> "VerdictView":
        """Return the view of a verdict."""
        return cls(quality=judged.quality, reasons=judged.reasons)


class ConceptView(View):
    """A subject that the base model has learned, or is learning."""

    id: str
    name: str
    placeholder: Annotated[str, Field(examples=["<rex>"])]
    superclass: str
    description: Annotated[
        str | None, Field(description="What its owner has written about it; else null.")
    ] = None
    status: ConceptStatus
    usable: Annotated[bool, Field(description="Whether a prompt can use the concept now.")]
    reason: Annotated[
        str | None, Field(description="Why it is not usable, and what to do; null if it is.")
    ]
    base_model: BaseModelRef | None
    covariance_fingerprint: str | None
    bytes: int | None
    sha256: str | None
    mask_source: _MaskSource | None
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
        VerdictView | None,
        Field(description="The verdict on its operating curve; null if it has none."),
    ] = None
    recommended_strength: Annotated[
        float | None, Field(description="The best balance of pictures and prompt.")
    ] = None
    warning: Annotated[
        str | None,
        Field(description="What to know of a concept of a sibling base model; else null."),
    ] = None


class ConceptPictureView(View):
    """A picture that a concept was trained on, as a PNG, and its mask."""

    url: str
    mask_url: Annotated[str | None, Field(description="White is the subject; null: no mask.")]
    width: Annotated[int, Field(description="Pixels.")]
    height: Annotated[int, Field(description="Pixels.")]
    signed_url: SignedUrl = None
    signed_mask_url: SignedUrl = None


class ConceptPicturesView(View):
    """The pictures that a concept was trained on; none of an imported concept."""

    items: tuple[ConceptPictureView, ...]
    concept_id: Annotated[str, Field(exclude=True)] = ""


class ConceptAccepted(View):
    """The new concept, and the job that trains or judges it."""

    concept: ConceptView
    job: JobView


_ToPictures = Annotated[float, Field(description="To the training pictures.")]
_ToText = Annotated[
    float, Field(description="To the prompt with the superclass in the concept's place.")
]


class SimilaritiesView(View):
    """The evaluator's mean cosine similarities of images; compare these only with each other."""

    image_similarity: _ToPictures
    text_similarity: _ToText


class CurvePointView(View):
    """The results of one strength."""

    strength: float
    beta: Annotated[
        float, Field(description="The same as a bias: `concepts` takes either, for these images.")
    ]
    image_similarity: _ToPictures
    text_similarity: _ToText
    thumbnail_url: Annotated[str, Field(description="A small WebP image at this strength.")]


class CurveView(View):
    """The change of a concept's images with its strength, in scenes not used for training."""

    concept_id: str
    evaluator: Annotated[str, Field(description="The CLIP model whose similarities these are.")]
    evaluator_fingerprint: str
    prompts: tuple[str, ...]
    superclass: Annotated[
        SimilaritiesView, Field(description="The plain superclass, as the floor.")
    ]
    ceiling: Annotated[
        float | None,
        Field(description="The training pictures among each other; null if there is only one."),
    ]
    text_floor: Annotated[
        float,
        Field(description="Text similarity of plain images to other scenes; 0 if not measured."),
    ]
    points: Annotated[
        tuple[CurvePointView, ...],
        Field(description="By rising strength, which is falling beta: 0.9 to 0.3 in steps of 0.1."),
    ]
    recommended_strength: Annotated[
        float, Field(description="Where gain over the superclass and kept text balance best.")
    ]
    verdict: VerdictView
