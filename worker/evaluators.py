"""The evaluator of this process: the CLIP model that judges concepts, loaded when first needed.

A concept is worth having without a judgement, so an evaluator that cannot be loaded costs that
alone; it is tried again at the next training.
"""

from pathlib import Path
from threading import Lock

import structlog

from perfusion_core.base_model import BaseModel
from perfusion_core.similarity import Evaluator
from service.settings import SHIPPED_BASE_MODEL, Settings

_SHIPPED_EVALUATOR = SHIPPED_BASE_MODEL.with_name("evaluator")
_log = structlog.get_logger("perfusion.worker")


class Evaluators:
    """Holds the evaluator that the settings name, or none."""

    def __init__(self, settings: Settings) -> None:
        self._name = name_of(settings)
        self._lock = Lock()
        self._loaded: Evaluator | None = None

    def beside(self, base: BaseModel) -> Evaluator | None:
        """Return the evaluator, on the base model's device; None where there is none."""
        if self._name is None:
            return None
        with self._lock:
            if self._loaded is None:
                try:
                    self._loaded = Evaluator(self._name, device=str(base.device))
                except Exception:
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
