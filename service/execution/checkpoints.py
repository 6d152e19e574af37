"""What a running job saves: a training's state, to resume from, and preview pictures.

State and preview are stored under the attempt's prefix, where no other attempt writes. The blob is
written first. Then an update of the row, conditional on the lease token, records which attempt
saved the newest state and preview. So a worker that continues after its lease has expired cannot
overwrite its successor's files.
"""

import base64
from collections.abc import Callable, Sequence

from service.blobs import keys
from service.blobs.store import BlobNotFound
from service.execution import leases
from service.jobs import transitions
from service.jobs.lease_types import ClaimedJob
from service.jobs.views import EventPreviews
from service.wiring import Service


def read_state(service: Service, claimed: ClaimedJob) -> bytes | None:
    """Return the newest state of a training; None means a start at the first step.

    If the row names no state, the previous release may have saved a state under a key of that
    release.
    """
    if claimed.state_attempt is None:
        key = keys.previous_state_key(claimed.id)
    else:
        key = keys.state_key(claimed.id, claimed.state_attempt)
    try:
        return service.blobs.get(key)
    except BlobNotFound:
        return None


def save_state(service: Service, claimed: ClaimedJob, *, state: bytes, step: int) -> bool:
    """Save the state of a training at `step`; return False if this claim does not hold the job.

    A state at a later step than any earlier state is progress: such an attempt no longer counts
    against the limit, and the job's series of faults is over. A training that had to start again
    saves states at earlier steps. The next attempt resumes from these earlier states. States at
    earlier steps do not count as progress, because a job that starts again every time must end at
    some point.
    """
    service.blobs.put(keys.state_key(claimed.id, claimed.attempt), state)
    with service.database.write() as session:
        job = leases.lock(session, claimed)
        if job is None:
            return False
        before, job.state_attempt = job.state_attempt, claimed.attempt
        if step > (job.state_step or 0):
            job.state_step, job.faulted_at = step, None
            job.attempts_spent = claimed.attempts_spent - 1
    if before not in (None, claimed.attempt):
        # No longer needed: a worker that claims the job from now on reads the new state.
        transitions.remove_blobs(service, key=keys.state_key(claimed.id, before))
    return True


def save_preview(service: Service, claimed: ClaimedJob, *, png: bytes) -> bool:
    """Save a preview of a training; return False if this claim does not hold the job."""
    return _save_preview(service, claimed, png, key_of=keys.preview_key)


def save_live_previews(
    service: Service, claimed: ClaimedJob, *, first: bytes, each: Sequence[bytes | None]
) -> bool:
    """Save JPEGs of a generation; return False if this claim does not hold the job.

    `first` shows the first unfinished image, and `each` has a small one of every image of the job;
    None: the image is not being sampled.
    """
    previews = EventPreviews(
        preview=_data_url(first),
        previews=tuple(None if jpeg is None else _data_url(jpeg) for jpeg in each),
    )
    data = previews.model_dump_json().encode()
    return _save_preview(service, claimed, data, key_of=keys.live_previews_key)


def _data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _save_preview(
    service: Service, claimed: ClaimedJob, data: bytes, *, key_of: Callable[[str, int], str]
) -> bool:
    service.blobs.put(key_of(claimed.id, claimed.attempt), data)
    with service.database.write() as session:
        job = leases.lock(session, claimed)
        if job is None:
            return False
        before, job.preview_attempt = job.preview_attempt, claimed.attempt
        job.version += 1  # event streams notice the preview
    if before is not None and before != claimed.attempt:
        transitions.remove_blobs(service, key=key_of(claimed.id, before))
    return True
