"""What use cases return: frozen records with the fields of the REST contract.

Views are built inside the session and hold plain values only, so that nobody can touch the database
through them later. `to_json` is the one place that writes them as JSON: the API's answers and the
first answers kept for an idempotency key come from it and so cannot differ.
"""

from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class JobKind(StrEnum):
    """What a job does; also the name of the queue that its doorbell rings in."""

    TRAIN = "train"
    GENERATE = "generate"


class JobStatus(StrEnum):
    """Where a job is. The last three are final."""

    QUEUED = "queued"  # accepted; waits for a worker
    RUNNING = "running"  # one worker holds its lease
    SUCCEEDED = "succeeded"  # its result is there
    FAILED = "failed"  # `error` says why
    CANCELLED = "cancelled"  # somebody asked for it


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


class ConceptStatus(StrEnum):
    """Whether a concept can be used."""

    TRAINING = "training"  # its job is queued or running
    READY = "ready"  # the only state that a prompt may use
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class ProgressView:
    """How far a job is; `eta_seconds` is worked out by the service, not by who reports."""

    step: int
    total_steps: int
    seconds_per_step: float | None = None
    eta_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class AttentionMapView:
    """Where a word of the prompt acted in an image."""

    word: str
    concept_id: str | None  # of a placeholder
    coverage: float
    url: str


@dataclass(frozen=True, kw_only=True)
class PresenceView:
    """Whether a concept of the prompt is to be seen in an image."""

    concept_id: str
    name: str
    score: float  # the similarity of the best window
    present: bool


@dataclass(frozen=True, kw_only=True)
class ImageView:
    """One generated image of a job."""

    id: str
    url: str
    seed: int
    width: int
    height: int
    attention_maps: tuple[AttentionMapView, ...] | None  # None: not asked for
    presence: tuple[PresenceView, ...] | None  # None: nothing to measure it with


@dataclass(frozen=True, kw_only=True)
class JobView:
    """A job as its owner sees it."""

    id: str
    kind: JobKind
    status: JobStatus
    progress: ProgressView
    queue_position: int | None  # 1 starts next, 1000 is there or behind; None: not waiting
    attempt: int
    concept_id: str | None
    images: tuple[ImageView, ...]
    error: dict[str, Any] | None  # a problem, see `errors.problem`
    warnings: tuple[dict[str, Any], ...]  # problems that did not stop it
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    # Grows with every write to the row: the id of a server-sent event. Not part of the JSON.
    version: int = field(metadata={"internal": True})

    @property
    def finished(self) -> bool:
        """Whether the status is final."""
        return self.status in TERMINAL


@dataclass(frozen=True, kw_only=True)
class BaseModelRef:
    """The base model that a concept belongs to."""

    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class VerdictView:
    """Whether a concept works, as its operating curve says."""

    quality: str  # good, weak or overfit
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ConceptView:
    """A concept as its owner sees it."""

    id: str
    name: str
    placeholder: str
    superclass: str
    status: ConceptStatus
    usable: bool  # by a prompt, now
    reason: str | None  # a sentence, why not; None where it is usable
    base_model: BaseModelRef | None  # None until the training has begun on one
    covariance_fingerprint: str | None
    bytes: int | None
    sha256: str | None
    mask_source: str | None
    training: dict[str, Any]
    created_at: datetime
    ready_at: datetime | None
    job_id: str | None  # None for an imported concept
    revision: int  # 1 is the first file; counts what replaced it, and reverts
    has_file_before: bool  # what `revert` goes back to
    verdict: VerdictView | None  # None where no evaluator has judged it
    recommended_strength: float | None


@dataclass(frozen=True, kw_only=True)
class SimilaritiesView:
    """Mean cosines of images, to the training pictures and to their prompts."""

    image_similarity: float
    text_similarity: float


@dataclass(frozen=True, kw_only=True)
class CurvePointView:
    """What a concept's curve has at one strength."""

    strength: float
    beta: float  # the same as a bias, at the default temperature
    image_similarity: float
    text_similarity: float
    thumbnail_url: str


@dataclass(frozen=True, kw_only=True)
class CurveView:
    """A concept's operating curve: how its images change with strength."""

    concept_id: str
    evaluator: str
    evaluator_fingerprint: str
    prompts: tuple[str, ...]
    superclass: SimilaritiesView
    ceiling: float | None  # None where there is one picture only
    points: tuple[CurvePointView, ...]
    recommended_strength: float
    verdict: VerdictView


@dataclass(frozen=True, kw_only=True)
class BaseModelView:
    """The base model that workers serve, as the last one to start registered it."""

    name: str
    fingerprint: str
    covariance_fingerprint: str
    family: str
    info: dict[str, Any]  # what the worker described: resolution, defaults, bounds
    seen_at: datetime


@dataclass(frozen=True, kw_only=True)
class WorkerView:
    """A worker process that reported lately."""

    id: str
    queues: tuple[str, ...]
    device: str
    seen_at: datetime


@dataclass(frozen=True, kw_only=True)
class ApiKeyView:
    """An API key without its secret."""

    id: str
    owner_id: str
    label: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """One page of a list, newest first; `next_cursor` is None on the last one."""

    items: tuple[T, ...]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to a request that may be repeated under an idempotency key."""

    body: dict[str, Any]  # JSON-ready, exactly as first given
    location: str
    replayed: bool


@dataclass(frozen=True, kw_only=True)
class ConceptFile:
    """A concept's safetensors file."""

    data: bytes
    sha256: str
    name: str


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """The PNG file of a generated image, or of a map over it."""

    data: bytes
    sha256: str


def to_json(value: Any) -> Any:
    """Return `value` (a view, or a container of views) as JSON-ready data.

    Times become RFC 3339 in UTC; fields marked internal are left out.
    """
    if value is None or type(value) in (str, int):  # most of what there is
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: to_json(getattr(value, item.name))
            for item in fields(value)
            if not item.metadata.get("internal")
        }
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return value
