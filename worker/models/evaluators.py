"""The evaluator of this process: the CLIP model that judges concepts, loaded with the base model.

A concept is useful without a judgement, and an image without its `presence`. So an evaluator that
cannot be loaded costs only these, and the process tries again after a while. No job waits for it,
because a slow download may take longer than a hang.
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
        self._try_at = float("inf")  # monotonic seconds; until then it loads, or is there

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
        """Return the evaluator; None where there is none, or none yet.

        A failed load is tried again in a thread of its own.
        """
        with self._lock:
            if self._loaded is None and time.monotonic() >= self._try_at:
                self._try_at = float("inf")
                Thread(target=self.load, args=(base,), name="load-evaluator", daemon=True).start()
            return self._loaded


def name_of(settings: Settings) -> str | None:
    """Return the folder or hub name of the evaluator; None: nothing is judged.

    The shipped evaluator knows the pictures of the shipped base model's world and no others.
    """
    match settings.evaluator:
        case "none":
            return None
        case "auto":
            is_ours = Path(settings.base_model).resolve() == SHIPPED_BASE_MODEL
            return str(_SHIPPED_EVALUATOR) if is_ours and _SHIPPED_EVALUATOR.is_dir() else None
        case name:
            return name
