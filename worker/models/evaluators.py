"""The evaluator of this process: the CLIP model that evaluates concepts.

A concept is useful without an evaluation, and an image is useful without its `presence`. So if the
evaluator cannot be loaded, only evaluations and `presence` are missing, and `/readyz` warns. The
process tries to load the evaluator again after a while. No job waits for the evaluator, because a
slow download may take longer than HANG_SECONDS.
"""

import time
from collections.abc import Callable
from threading import Lock, Thread

import structlog

from perfusion_core.base_model import BaseModel
from perfusion_core.errors import PerfusionError
from perfusion_core.evaluators.similarity import Evaluator
from service.settings.environment import SHIPPED_BASE_MODEL, Settings
from worker.models import phases
from worker.models.base_model import is_shipped
from worker.models.phases import Report

_SHIPPED_EVALUATOR = SHIPPED_BASE_MODEL.with_name("evaluator")
DEFAULT = "openai/clip-vit-large-patch14"
"""What judges Stable Diffusion: the CLIP that its first versions were trained with.

Unverified: no revision is pinned, because none could be compared with the hub here. Pin one by
PERFUSION_EVALUATOR=NAME@REVISION.
"""
_TRY_AGAIN_SECONDS = 300.0
_log = structlog.get_logger("perfusion.worker")


class Evaluators:
    """Holds the evaluator that the settings name, or none."""

    def __init__(self, settings: Settings) -> None:
        self._name = name_of(settings)
        self._lock = Lock()
        self._loaded: Evaluator | None = None
        self._try_at = float("inf")  # monotonic seconds; infinite while loading or loaded
        self.problem: str | None = None
        """A sentence that says why the evaluator is missing."""
        self.when_loaded_late: Callable[[], None] = lambda: None

    @property
    def loaded_name(self) -> str | None:
        """The folder or hub name of the evaluator, once it is loaded."""
        return None if self._loaded is None else self._name

    def load(self, base: BaseModel, report: Report = lambda state: None) -> None:
        """Load the evaluator onto the base model's device; a failure costs only evaluations."""
        if self._name is None:
            return
        report(phases.loading("evaluator"))
        try:
            loaded = Evaluator(
                self._name,
                device=base.placed.side_device,
                progress=phases.fetching("evaluator", report),
            )
        except Exception as error:
            self.problem = (
                "Concepts are not judged. " + str(error)
                if isinstance(error, PerfusionError)
                else "Concepts are not judged: the evaluator could not be loaded "
                f"({type(error).__name__}). The worker's log has the details."
            )
            self._try_at = time.monotonic() + _TRY_AGAIN_SECONDS
            _log.warning("evaluator.not_loaded", problem=self.problem, exc_info=True)
        else:
            self._loaded, self.problem = loaded, None
            _log.info("evaluator.loaded", name=loaded.ref.name)

    def for_base_model(self, base: BaseModel) -> Evaluator | None:
        """Return the evaluator; None if no evaluator exists or is loaded yet.

        After a failure, the evaluator is loaded again in a separate thread.
        """
        with self._lock:
            if self._loaded is None and time.monotonic() >= self._try_at:
                self._try_at = float("inf")
                again = Thread(target=self._load_late, args=(base,), name="load-evaluator")
                again.daemon = True
                again.start()
            return self._loaded

    def _load_late(self, base: BaseModel) -> None:
        self.load(base)
        if self._loaded is not None:
            self.when_loaded_late()


def name_of(settings: Settings) -> str | None:
    """Return the folder or hub name of the evaluator; None if nothing is evaluated.

    `auto` is the shipped evaluator for the shipped base model, and CLIP ViT-L/14 for any other,
    because the shipped evaluator knows only the kind of pictures that the shipped base model makes.
    """
    match settings.evaluator:
        case "none":
            return None
        case "auto":
            if not is_shipped(settings):
                return DEFAULT
            return str(_SHIPPED_EVALUATOR) if _SHIPPED_EVALUATOR.is_dir() else None
        case name:
            return name
