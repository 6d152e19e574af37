"""The exceptions that end a job without a result. The messages are for the job's owner.

Interrupted (perfusion_core.errors) the work stops, for a reason outside of it
├── CancelRequested its owner does not want it any more
├── LeaseLost       another worker may have the job: stop and write nothing
├── LeaseNotRenewed the database was away for as long as a lease lasts
├── OfNewerRelease  the job has options that only a newer release knows
└── Draining        this process is stopping: the job goes back to the queue
WorkerError
├── OutOfMemory     the device has too little memory even for this job alone
├── JobTooLarge     the job is too large for the base model that is served here
├── NoSegmenter     an edit names a subject, and no segmenter can look for it
└── FileGone        a file that the job needs was deleted after it was accepted
"""

from perfusion_core.errors import Interrupted


class CancelRequested(Interrupted):
    """The job's owner cancelled the job."""


class LeaseLost(Interrupted):
    """The job's lease is lost, so another worker may have the job by now."""


class LeaseNotRenewed(Interrupted):
    """The database was unavailable for so long that another worker may have the job by now."""


class OfNewerRelease(Interrupted):
    """A newer release accepted the job, with options that this release does not know."""


class Draining(Interrupted):
    """This process is stopping."""


class WorkerError(Exception):
    """The base class of expected faults that end a job's work."""


class OutOfMemory(WorkerError):
    """The device's memory does not suffice for this job, even if no other job runs."""


class JobTooLarge(WorkerError):
    """The job is too large for the base model, which was not known when the job was accepted."""


class NoSegmenter(WorkerError):
    """No segmenter can look for the subject of an edit."""


class FileGone(WorkerError):
    """A file that the job needs no longer exists."""
