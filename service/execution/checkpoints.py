"""What a training saves while it runs: its state, to go on from, and a preview picture.

Both lie under the attempt's prefix, where no other attempt writes. The blob comes first, then a
fenced update of the row, which says which attempt's are the newest: a worker that wakes after its
lease has expired overwrites nothing of its successor's.
"""

from service.blobs import keys
from service.blobs.store import BlobNotFound
from service.execution import leases
from service.jobs import transitions
from service.jobs.lease_types import ClaimedJob
from service.wiring import Service


def read_state(service: Service, claimed: ClaimedJob) -> bytes | None:
    """Return the newest state of a training; None: there is none, it begins at the first step.

    Where the row names none, the previous release may have saved one under its own key.
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
    """Save the state of a training at `step`; False where this claim does not hold the job.

    A state at a later step than any before is progress: the attempt does not count any more, and a
    series of faults is over. A training that had to begin anew saves states at earlier steps. The
    next attempt resumes from them, but they are no progress: a job that begins anew every time
    must end.
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
        # Superseded: a worker that claims the job from now on reads the new one.
        transitions.remove_blobs(service, key=keys.state_key(claimed.id, before))
    return True


def save_preview(service: Service, claimed: ClaimedJob, *, png: bytes) -> bool:
    """Save a preview picture; False where this claim does not hold the job."""
    service.blobs.put(keys.preview_key(claimed.id, claimed.attempt), png)
    with service.database.write() as session:
        job = leases.lock(session, claimed)
        if job is None:
            return False
        before, job.preview_attempt = job.preview_attempt, claimed.attempt
    if before not in (None, claimed.attempt):
        transitions.remove_blobs(service, key=keys.preview_key(claimed.id, before))
    return True
