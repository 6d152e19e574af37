"""Previews of a generation while it is sampled, drawn only while a client asks for them.

A preview takes a turn on the device between two steps, so others wait for it. All previews of a
worker together therefore take at most a few per cent of its time.
"""

import time

import structlog
from PIL import Image

from perfusion_core.errors import Interrupted
from perfusion_core.memory import free_memory, is_out_of_memory
from perfusion_core.sampling.estimates import encode_estimate, estimate
from service.execution import checkpoints
from service.execution.leases import ClaimedJob
from worker.context import WorkerContext
from worker.engine.requests import Request
from worker.engine.waiting import WhileWaiting
from worker.heartbeat import Heartbeat

_SECONDS_BETWEEN = 1.0
_log = structlog.get_logger("perfusion.worker")


class LivePreviews:
    """The previews of one request in the engine."""

    def __init__(
        self,
        context: WorkerContext,
        claimed: ClaimedJob,
        heartbeat: Heartbeat,
        request: Request,
        *,
        while_waiting: WhileWaiting,
    ) -> None:
        self._context = context
        self._claimed = claimed
        self._heartbeat = heartbeat
        self._request = request
        self._while_waiting = while_waiting
        self._next_at = 0.0
        self._drawn: tuple[int, int] | None = None  # the image and its step
        self._seconds = 0.0  # that the last preview kept the device

    def maybe_draw(self) -> None:
        """Draw and store a preview, if a client asks for one and it is affordable.

        A failure loses only the previews. Raises Interrupted if the work must stop.
        """
        if not self._heartbeat.wants_previews or time.monotonic() < self._next_at:
            return
        if not self._context.preview_budget.take():
            return
        self._next_at, self._seconds = time.monotonic() + _SECONDS_BETWEEN, 0.0
        out_of_memory = False
        try:
            picture = self._context.engine.run_on_device(
                self._draw, urgent=True, while_waiting=self._while_waiting
            )
            if picture is not None:
                jpeg = encode_estimate(picture)
                checkpoints.save_live_preview(self._context.service, self._claimed, jpeg=jpeg)
        except Interrupted:
            raise
        except Exception as error:
            _log.warning("generation.no_preview", error=type(error).__name__, exc_info=True)
            out_of_memory = is_out_of_memory(error)
            self._next_at = float("inf")
        finally:
            self._context.preview_budget.spent(self._seconds)
        if out_of_memory:
            free_memory()

    def _draw(self) -> Image.Image | None:
        """Return a picture of the first image that is not finished, if it has advanced."""
        unfinished = (
            (index, slot.trajectory)
            for index, slot in enumerate(self._request.slots)
            if slot.waiting
        )
        index, trajectory = next(unfinished, (0, None))
        if trajectory is None or self._drawn == (index, trajectory.step_index):
            return None
        self._drawn = (index, trajectory.step_index)
        began = time.monotonic()
        picture = estimate(self._context.model_loader.base(), trajectory)
        self._seconds = time.monotonic() - began
        return picture
