"""Errors of the method. Each error's message is a sentence that says what to do.

PerfusionError
├── PromptError               a placeholder in the prompt cannot be used as written
│   └── PromptTooLong         a placeholder lies beyond the text encoder's last position
├── SuperclassError           the superclass cannot be encoded by this base model
├── ConceptFileError          the bytes are not a concept this version can read
├── FingerprintMismatch       the concept belongs to another base model or covariance
├── ConceptsIndistinguishable two concepts share (nearly) one direction: G is singular
├── CovarianceError           C cannot be estimated or factored
├── BaseModelError            the base model cannot be loaded or is of another family
├── SchedulerError            the scheduler cannot be used with this base model or these steps
├── PictureError              a training picture or mask cannot be used
├── EditError                 an edit's picture or mask cannot be used
├── TrainingStateError        a saved training state does not belong to this training
├── CredentialsError          a certificate and its key cannot sign images
├── TrainingDiverged          loss or parameters stopped being finite, or exploded
└── ImageDiverged             sampling came to numbers that are no picture

Interrupted is not a fault: a callback of the caller raises Interrupted to stop the work, and the
method does not catch it.
"""


class PerfusionError(Exception):
    """The base class of every error that the method raises on purpose."""


class PromptError(PerfusionError):
    """A placeholder in the prompt cannot be used as written."""


class PromptTooLong(PromptError):
    """A placeholder lies beyond the last position that the text encoder reads."""


class SuperclassError(PerfusionError):
    """The superclass cannot be encoded by this base model."""


class ConceptFileError(PerfusionError):
    """The bytes are not a concept file that this version can read."""


class FingerprintMismatch(PerfusionError):
    """The concept was trained on another base model, or with another covariance."""


class ConceptsIndistinguishable(PerfusionError):
    """Two concepts have (nearly) the same direction, so no edit can distinguish them."""


class CovarianceError(PerfusionError):
    """The second moment of encodings cannot be estimated, read or factored."""


class BaseModelError(PerfusionError):
    """The base model cannot be loaded, or belongs to a family that is not supported."""


class SchedulerError(PerfusionError):
    """The scheduler cannot be used with this base model, or with so many steps."""


class PictureError(PerfusionError):
    """A training picture or its mask cannot be used."""


class EditError(PerfusionError):
    """An edit's picture or mask cannot be used."""


class TrainingStateError(PerfusionError):
    """A saved training state does not belong to this training."""


class CredentialsError(PerfusionError):
    """The certificate and its key cannot sign images."""


class TrainingDiverged(PerfusionError):
    """The loss or the parameters stopped being finite, or exploded."""


class ImageDiverged(PerfusionError):
    """Sampling produced numbers that are not finite."""


class Interrupted(Exception):
    """A callback asked the work to stop."""
