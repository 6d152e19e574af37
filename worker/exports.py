"""The thread that makes the LoRAs that owners asked for (service/concepts/exports.py).

A LoRA is a matrix product for each layer, which takes milliseconds, so it is no job: nothing is
lost if a worker ends in the middle, since the row still asks for it. Several workers may make one
LoRA at once, because they make the same.
"""

from threading import Event, Thread
from typing import TYPE_CHECKING

import structlog

from perfusion_core.errors import PerfusionError
from service.concepts import exports
from service.concepts.exports import RequestedExport
from service.errors import Unavailable
from worker.errors import Draining, FileGone

if TYPE_CHECKING:
    from worker.context import WorkerContext

_EVERY_SECONDS = 0.5
_STOP_SECONDS = 10.0
_log = structlog.get_logger("perfusion.worker")


class Exports:
    """A thread that looks for requested LoRAs twice a second, and survives every exception."""

    def __init__(self, context: "WorkerContext") -> None:
        self._context = context
        self._stopped = Event()
        self._failed: frozenset[RequestedExport] = frozenset()
        self._thread = Thread(target=self._run, name="exports", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread after the LoRA that it makes."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def make_requested(self) -> int:
        """Make the LoRAs that are asked for now; return their number."""
        if not self._context.model_loader.loaded:
            return 0
        base = self._context.model_loader.base()
        found = exports.requested(
            self._context.service,
            base_model=base.fingerprint,
            covariance=base.covariance_fingerprint,
            but=self._failed,
        )
        for export in found:
            try:
                exports.store(self._context.service, export, self._make(export))
            except (Unavailable, Draining):
                raise
            except Exception:
                # Left to other workers: this one does not try it again.
                self._failed |= {export}
                _log.exception("export.failed", concept_id=export.concept_id)
        return len(found)

    def _make(self, export: RequestedExport) -> bytes:
        # Imported here, since it imports torch, which a thread that waits does not need.
        from perfusion_core.export.lora import export_lora

        context = self._context
        base = context.model_loader.base()
        try:
            concept = context.concepts.get(export.sha256, blob_key=export.blob_key)
            concept = concept.renamed(export.name)
            # On the device, because the projections of a base model may be moved between two calls.
            return context.engine.run_on_device(
                lambda: export_lora(base, concept, dtype=exports.PRECISION), urgent=True
            )
        except (PerfusionError, FileGone) as error:
            _log.warning("export.impossible", concept_id=export.concept_id, reason=str(error))
            return b""

    def _run(self) -> None:
        while not self._stopped.wait(_EVERY_SECONDS):
            try:
                self.make_requested()
            except Unavailable as error:
                _log.warning("exports.fault", problem=error.slug)
            except Draining:
                return
            except Exception:
                _log.exception("exports.failed")
