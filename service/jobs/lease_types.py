"""What a worker and the service tell each other about a job: claim, lease, results."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from service.jobs.views import PresenceView
from service.statuses import JobKind


@dataclass(frozen=True, kw_only=True)
class ClaimedJob:
    """A job that this worker holds the lease of. `attempt` differs between any two claims."""

    id: str
    kind: JobKind
    owner_id: str
    payload: dict[str, Any]  # of payloads.TrainPayload or GeneratePayload
    attempt: int
    attempts_spent: int  # with this one, until it makes progress or is given back
    faults: int  # in a series of faults: earlier attempts that did not count; otherwise 0
    lease_token: str
    concept_id: str | None
    state_attempt: int | None = None  # the attempt that saved the state to go on from

    @property
    def lost_before(self) -> bool:
        """Whether a worker was lost with an earlier attempt, perhaps because of this very job."""
        return self.attempts_spent > 1


class Lease(Enum):
    """What a heartbeat learned."""

    KEPT = "kept"
    CANCEL_REQUESTED = "cancel_requested"  # stop within a step, then call cancelled()
    LOST = "lost"  # another may have the job, or it has ended: stop, and delete nothing


@dataclass(frozen=True, kw_only=True)
class NewAttentionMap:
    """A word's map over an image, whose PNG lies under `blob_key` already."""

    word: str
    concept_id: str | None
    coverage: float
    blob_key: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class NewImage:
    """An image whose PNG lies under `blob_key` already."""

    index: int
    seed: int
    width: int
    height: int
    blob_key: str
    sha256: str
    size_bytes: int  # of the PNG and of all its maps
    attention_maps: tuple[NewAttentionMap, ...] | None = None  # in the prompt's order
    presence: tuple[PresenceView, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a concept file compares with another one: its verdict, and what it is worth in numbers.

    `balance` is that of the recommended strength, 0 to 1, see perfusion_core.evaluation.curve.
    Balances of two evaluators do not compare, nor do those of two versions of the judging.
    """

    quality: str
    balance: float
    measured_by: tuple[str, str | None]  # the evaluator's fingerprint, and eval_prompts.judging_of

    @property
    def is_good(self) -> bool:
        """`good` stands above all other verdicts, and those stand equal."""
        return self.quality == "good"


@dataclass(frozen=True, kw_only=True)
class TrainedConcept:
    """A trained concept whose file lies under `blob_key` already."""

    blob_key: str
    sha256: str
    size_bytes: int
    base_model_name: str
    base_model_fingerprint: str
    covariance_fingerprint: str
    mask_source: str
    training: dict[str, Any]  # the options that were in force, and what the training found
    judgement: dict[str, Any] | None = None  # of concepts.files.judgement_of
    standing: Standing | None = None  # of concepts.files.standing_of
