"""The evaluator of this process: the CLIP model that evaluates concepts.

A concept is useful without an evaluation, and an image is useful without its `presence`. So if the
evaluator cannot be loaded, only evaluations and `presence` are missing. The process tries to load
the evaluator again after a while. No job waits for the evaluator, because a slow download may take
longer than HANG_SECONDS.
"""

import time
from pathlib import Path
from threading import Lock, Thread

import structlog

from perfusion_core.base_model import BaseModel
from perfusion_core.evaluators.similarity import Evaluator
from service.settings.environment import SHIPPED_BASE_MODEL, Settings

_SHIPPED_EVALUATOR = SHIPPED_BASE_MODEL.with_name("evaluator")
_TRY_AGAIN_SECONDS = 300.0
_log = structlog.get_logger("perfusion.worker")


class Evaluators:
    """Holds the evaluator that the settings name, or none."""

    def __init__(self, settings: Settings) -> None:
        self._name = name_of(settings)
        self._lock = Lock()
        self._loaded: Evaluator | None = None
        self._try_at = float("inf")  # monotonic seconds; infinite while loading or loaded

    def load(self, base: BaseModel) -> None:
        """Load the evaluator onto the base model's device; a failure is only logged."""
        if self._name is None:
            return
        try:
            loaded = Evaluator(self._name, device=str(base.device))
        except Exception:
            self._try_at = time.monotonic() + _TRY_AGAIN_SECONDS
            _log.warning("evaluator.not_loaded", exc_info=True)
        else:
            self._loaded = loaded
            _log.info("evaluator.loaded", name=loaded.ref.name)

    def for_base_model(self, base: BaseModel) -> Evaluator | None:
        """Return the evaluator; None if no evaluator exists or is loaded yet.

        After a failure, the evaluator is loaded again in a separate thread.
        """
        with self._lock:
            if self._loaded is None and time.monotonic() >= self._try_at:
                self._try_at = float("inf")
                Thread(target=self.load, args=(base,), name="load-evaluator", daemon=True).start()
            return self._loaded


def name_of(settings: Settings) -> str | None:
    """Return the folder or hub name of the evaluator; None if nothing is evaluated.

    The shipped evaluator is used only with the shipped base model, because the shipped evaluator
    was trained only on the kind of pictures that the shipped base model makes.
    """
    match settings.evaluator:
        case "none":
            return None
        case "auto":
            is_ours = Path(settings.base_model).resolve() == SHIPPED_BASE_MODEL
            return str(_SHIPPED_EVALUATOR) if is_ours and _SHIPPED_EVALUATOR.is_dir() else None
        case name:
            return name
