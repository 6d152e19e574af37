"""The models of this process: loaded once, in a thread, and registered for the API to see.

If the base model cannot be loaded (a wrong name, an unreachable hub), loading is tried again now
and then. Until the base model is loaded, the worker claims no jobs, so all jobs stay queued. The
worker reports how far it is, or why it failed: /readyz, the page and the log show it.
"""

import time
from pathlib import Path
from threading import Event, Thread

import structlog

from perfusion_core.base_model import BaseModel
from perfusion_core.errors import PerfusionError
from service.base_models import RegisteredBaseModel, register_base_model, update_base_model
from service.errors import Unavailable
from service.statuses import LoadingState
from service.wiring import Service
from worker.models import base_model, phases, segmenter
from worker.models.base_model import is_shipped
from worker.models.evaluators import Evaluators

_TRY_AGAIN_SECONDS = 30.0
_REGISTER_AGAIN_SECONDS = 2.0
_log = structlog.get_logger("perfusion.worker")


class ModelLoader:
    """The loaded base model, or the reason why it is not loaded."""

    def __init__(
        self,
        service: Service,
        *,
        base: BaseModel | None = None,
        evaluators: Evaluators | None = None,
    ) -> None:
        """Prepare to load; `base` may be a loaded model, which is only registered.

        The evaluator and the segmenter's files are loaded before any job is claimed.
        """
        self._service = service
        self._evaluators = evaluators or Evaluators(service.settings)
        self._given = base
        self._base: BaseModel | None = None
        self._state = phases.loading("base model")
        self._warnings: list[str] = []
        self._decided = Event()
        self._stopped = Event()
        self._thread = Thread(target=self._load, name="load-base-model", daemon=True)

    def start(self) -> None:
        """Start to load, and return at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop trying to load. A load in progress goes on, because nothing can interrupt a load."""
        self._stopped.set()
        self._decided.set()

    @property
    def state(self) -> LoadingState:
        """How far loading is, until the base model is loaded."""
        return self._state

    @property
    def loaded(self) -> bool:
        """Return whether the base model is loaded and registered."""
        return self._base is not None

    def base(self) -> BaseModel:
        """Return the base model. Only jobs may call `base`: no job is claimed before the load."""
        if self._base is None:
            raise RuntimeError("a job was claimed before the base model was there")
        return self._base

    def wait(self, *, timeout_seconds: float | None = None) -> bool:
        """Wait until loading the base model succeeds or fails; return whether it succeeded."""
        self._decided.wait(timeout_seconds)
        return self.loaded

    def _load(self) -> None:
        settings = self._service.settings
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                base = self._given or base_model.load(settings, report=self._report)
                self._load_others(base)
                self._register_when_possible(base)
            except Exception as error:
                self._report(phases.failed(_sentence(error)))
                _log.exception("base_model.not_loaded", problem=self._state.detail)
                self._decided.set()
                self._stopped.wait(_TRY_AGAIN_SECONDS)
            else:
                self._base = base
                self._decided.set()
                _log.info(
                    "base_model.loaded",
                    name=base.name,
                    device=str(base.device),
                    dtype=str(base.dtype).removeprefix("torch."),
                    backend=f"{base.backend.name} {base.backend.precision}",
                    offload=base.placed.offload,
                    attention=base.placed.attention,
                    seconds=round(time.monotonic() - began, 2),
                )
                return

    def _load_others(self, base: BaseModel) -> None:
        """Load the evaluator and fetch the segmenter; without them the worker works, with less."""
        settings = self._service.settings
        self._evaluators.load(base, self._report)
        self._evaluators.when_loaded_late = lambda: update_base_model(
            self._service, self._described(base)
        )
        # The shipped base model needs no network, and waits for none.
        masks = None if is_shipped(settings) else segmenter.fetch(settings, report=self._report)
        self._warnings = [masks] if masks else []

    def _report(self, state: LoadingState) -> None:
        if state.phase is not self._state.phase:
            _log.info("worker.loading", phase=state.phase.value, detail=state.detail)
        self._state = state

    def _register_when_possible(self, base: BaseModel) -> None:
        """Register the model; wait for the database, because loading again would take minutes."""
        while not self._stopped.is_set():
            try:
                register_base_model(self._service, self._described(base))
            except Unavailable as error:
                self._report(phases.failed(str(error)))
                _log.warning("base_model.not_registered", problem=error.slug)
                self._stopped.wait(_REGISTER_AGAIN_SECONDS)
            else:
                return

    def _described(self, base: BaseModel) -> RegisteredBaseModel:
        problem = self._evaluators.problem
        return RegisteredBaseModel(
            name=base.name,
            fingerprint=base.fingerprint,
            covariance_fingerprint=base.covariance_fingerprint,
            family=base.family,
            info={
                **base.describe(),
                "evaluator": _shown(self._evaluators.loaded_name),
                "segmenter": _shown(segmenter.name_of(self._service.settings)),
                "warnings": [*self._warnings, *([problem] if problem else [])],
            },
        )


def _shown(name: str | None) -> str | None:
    """Return a model's name for clients; for a folder, only its last part."""
    if name is None or not Path(name).is_dir():
        return name
    return Path(name).resolve().name


def _sentence(error: Exception) -> str:
    if isinstance(error, (PerfusionError, Unavailable)):
        return str(error)
    return f"The base model could not be loaded ({type(error).__name__}); the log has the trace."
