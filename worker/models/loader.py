"""The base model of this process: loaded once, in a thread, and registered for the API to see.

If the model cannot be loaded (a wrong name, an unreachable hub), loading is tried again now and
then. Until the model is loaded, the worker claims no jobs, so all jobs stay queued. Until then, the
worker does not report that it is alive either. So /readyz reports a missing worker; the log says
why.
"""

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import structlog

from perfusion_core.base_model import BaseModel
from perfusion_core.errors import PerfusionError
from service.base_models import RegisteredBaseModel, register_base_model
from service.errors import Unavailable
from service.wiring import Service
from worker.models import evaluators, segmenter

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
        also_load: Callable[[BaseModel], None] | None = None,
    ) -> None:
        """Prepare to load; `base` may be a loaded model, which is only registered.

        `also_load` loads models that depend on the base model, such as the evaluator, before any
        job is claimed.
        """
        self._service = service
        self._also_load = also_load
        self._given = base
        self._base: BaseModel | None = None
        self._problem: str | None = None
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
    def problem(self) -> str | None:
        """A sentence that says why loading failed; None if loading has not failed."""
        return self._problem

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
        _silence_libraries()
        settings = self._service.settings
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                base = self._given or BaseModel.load(
                    settings.base_model,
                    device=settings.device,
                    covariance_dir=self._cache_folder(),
                )
                self._register_when_possible(base)
                if self._also_load is not None:
                    self._also_load(base)
            except Exception as error:
                self._problem = _sentence(error)
                _log.exception("base_model.not_loaded", problem=self._problem)
                self._decided.set()
                self._stopped.wait(_TRY_AGAIN_SECONDS)
            else:
                self._base, self._problem = base, None
                self._decided.set()
                _log.info(
                    "base_model.loaded",
                    name=base.name,
                    device=str(base.device),
                    dtype=str(base.dtype).removeprefix("torch."),
                    seconds=round(time.monotonic() - began, 2),
                )
                return

    def _cache_folder(self) -> Path:
        folder = Path(self._service.settings.data_dir) / "covariance"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _register_when_possible(self, base: BaseModel) -> None:
        """Register the model; wait for the database, because loading again would take minutes."""
        while not self._stopped.is_set():
            try:
                self._register(base)
            except Unavailable as error:
                self._problem = str(error)
                _log.warning("base_model.not_registered", problem=error.slug)
                self._stopped.wait(_REGISTER_AGAIN_SECONDS)
            else:
                return

    def _register(self, base: BaseModel) -> None:
        register_base_model(
            self._service,
            RegisteredBaseModel(
                name=base.name,
                fingerprint=base.fingerprint,
                covariance_fingerprint=base.covariance_fingerprint,
                family=base.family,
                info={
                    **base.describe(),
                    "evaluator": _shown(evaluators.name_of(self._service.settings)),
                    "segmenter": _shown(segmenter.name_of(self._service.settings)),
                },
            ),
        )


def _shown(name: str | None) -> str | None:
    """Return a model's name for clients; for a folder, only its last part."""
    if name is None or not Path(name).is_dir():
        return name
    return Path(name).resolve().name


def _silence_libraries() -> None:
    # Their progress bars and advice would end up in the middle of structured logs. Imported here,
    # in the loading thread, since it takes seconds in which the API can answer already.
    import diffusers
    import transformers

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.disable_progress_bar()
        library.set_verbosity_error()


def _sentence(error: Exception) -> str:
    if isinstance(error, (PerfusionError, Unavailable)):
        return str(error)
    return f"The base model could not be loaded ({type(error).__name__}); the log has the trace."
