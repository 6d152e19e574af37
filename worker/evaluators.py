"""The evaluator of this process: the CLIP model that judges concepts, loaded when first needed.

A concept is worth having without a judgement, and an image without knowing who is in it, so an
evaluator that cannot be loaded costs that alone; it is tried again after a while.
"""

import time
from functools import partial
from pathlib import Path
from threading import Lock

import structlog

from perfusion_core.base_model import BaseModel
from perfusion_core.similarity import Evaluator
from service.settings import SHIPPED_BASE_MODEL, Settings
from worker.device import load_apart

_SHIPPED_EVALUATOR = SHIPPED_BASE_MODEL.with_name("evaluator")
_TRY_AGAIN_SECONDS = 300.0
_log = structlog.get_logger("perfusion.worker")


class Evaluators:
    """Holds the evaluator that the settings name, or none."""

    def __init__(self, settings: Settings) -> None:
        self._name = name_of(settings)
        self._lock = Lock()
        self._loaded: Evaluator | None = None
        self._try_at = 0.0  # monotonic seconds

    def beside(self, base: BaseModel) -> Evaluator | None:
        """Return the evaluator, on the base model's device; None where there is none."""
        if self._name is None:
            return None
        with self._lock:
            if self._loaded is None and time.monotonic() >= self._try_at:
                try:
                    self._loaded = load_apart(
                        partial(Evaluator, self._name, device=str(base.device))
                    )
                except Exception:
                    self._try_at = time.monotonic() + _TRY_AGAIN_SECONDS
                    _log.warning("evaluator.not_loaded", exc_info=True)
                else:
                    _log.info("evaluator.loaded", name=self._loaded.ref.name)
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
