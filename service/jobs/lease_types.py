"""The data that a worker and the service exchange about a job: claim, lease, results."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from service.jobs.views import FindingView, PresenceView
from service.statuses import JobKind


@dataclass(frozen=True, kw_only=True)
class ClaimedJob:
    """A job whose lease this worker holds. Any two claims have different values of `attempt`."""

    id: str
    kind: JobKind
    owner_id: str
    payload: dict[str, Any]  # a payloads.TrainPayload or GeneratePayload as JSON
    attempt: int
    attempts_spent: int  # includes this attempt, until it makes progress or is given back
    faults: int  # the earlier attempts of a series of faults, which did not count; otherwise 0
    lease_token: str
    concept_id: str | None
    state_attempt: int | None = None  # the attempt that saved the state to resume from
    finish_step: int | None = None  # see JobRow.finish_step

    @property
    def lost_before(self) -> bool:
        """Return whether an earlier attempt lost its worker, perhaps because of this job."""
        return self.attempts_spent > 1


class Lease(Enum):
    """The result of a heartbeat."""

    KEPT = "kept"
    CANCEL_REQUESTED = "cancel_requested"  # stop within a step, then call cancelled()
    LOST = "lost"  # the job has ended or another worker may have it: stop, and delete nothing


@dataclass(frozen=True, kw_only=True)
class NewAttentionMap:
    """An attention map of a word over an image; its PNG is already stored under `blob_key`."""

    word: str
    concept_id: str | None
    coverage: float
    blob_key: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class NewImage:
    """An image whose PNG is already stored under `blob_key`."""

    index: int
    seed: int
    width: int
    height: int
    blob_key: str
    sha256: str
    size_bytes: int  # of the image's PNG, its thumbnail and all its maps
    thumbnail_key: str | None = None  # a WebP file, already stored
    # What searches find the image by: its prompt, and the ids and names of the prompt's concepts.
    # None: by those of its job.
    prompt: str | None = None
    concept_refs: tuple[str, ...] | None = None
    cell: tuple[int, int] | None = None  # column and row in a sweep, from 0
    attention_maps: tuple[NewAttentionMap, ...] | None = None  # in the prompt's order
    presence: tuple[PresenceView, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class NewInspectedPicture:
    """What an inspection found in a picture; its mask is already stored under `mask_key`."""

    findings: tuple[FindingView, ...]
    crop: tuple[int, int, int, int]  # in pixels of the uploaded picture
    mask_source: str
    mask_key: str | None  # None: the mask is uniform
    mask_sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The values by which two concept files are compared: verdict and balance.

    `balance` is the balance at the recommended strength, 0 to 1, see
    perfusion_core.evaluation.curve. Balances are comparable only for the same evaluator and the
    same version of the evaluation.
    """

    quality: str
    balance: float
    measured_by: tuple[str, str | None]  # the evaluator's fingerprint, and eval_prompts.judging_of

    @property
    def is_good(self) -> bool:
        """Return whether the verdict is `good`, the highest rank; all other verdicts rank equal."""
        return self.quality == "good"


@dataclass(frozen=True, kw_only=True)
class TrainedConcept:
    """A trained concept whose file is already stored under `blob_key`."""

    blob_key: str
    sha256: str
    size_bytes: int
    base_model_name: str
    base_model_fingerprint: str
    covariance_fingerprint: str
    mask_source: str
    training: dict[str, Any]  # the options that were used, and the training's results
    judgement: dict[str, Any] | None = None  # of concepts.files.judgement_of
    standing: Standing | None = None  # of concepts.files.standing_of
