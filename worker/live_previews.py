"""Previews of a generation while it is sampled, drawn only while a client asks for them.

Previews take a turn on the device between two steps, so others wait for them. All previews of a
worker together therefore take at most a few per cent of its time. So the VAE decodes only the first
unfinished image. A function that is fitted to the results makes small previews of all images.
"""

import time
from collections.abc import Sequence

import structlog
from PIL import Image

from perfusion_core.errors import Interrupted
from perfusion_core.memory import free_memory, is_out_of_memory
from perfusion_core.sampling.estimates import MAX_ROUGH_BYTES, encode_estimate, estimates
from perfusion_core.sampling.linear_decoder import LinearDecoder
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
        first_index: int,
        image_count: int,
        while_waiting: WhileWaiting,
    ) -> None:
        """The request's images are those from `first_index` on, of `image_count` of the job."""
        self._context = context
        self._claimed = claimed
        self._heartbeat = heartbeat
        self._request = request
        self._first_index = first_index
        self._image_count = image_count
        self._while_waiting = while_waiting
        self._decoder = LinearDecoder()
        self._next_at = 0.0
        self._drawn: list[int] = []  # the images' steps
        self._seconds = 0.0  # that the last previews kept the device

    def maybe_draw(self) -> None:
        """Draw and store previews, if a client asks for them and they are affordable.

        A failure loses only the previews. Raises Interrupted if the work must stop.
        """
        if not self._heartbeat.wants_previews or time.monotonic() < self._next_at:
            return
        if not self._context.preview_budget.take():
            return
        self._next_at, self._seconds = time.monotonic() + _SECONDS_BETWEEN, 0.0
        out_of_memory = False
        try:
            drawn = self._context.engine.run_on_device(
                self._draw, urgent=True, while_waiting=self._while_waiting
            )
            if drawn is not None:
                self._save(*drawn)
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

    def _draw(self) -> tuple[Image.Image, list[Image.Image | None]] | None:
        """Return a picture of the first unfinished image, and small ones of all, if any advanced.

        All are images of the request; an image that cannot be drawn is None.
        """
        slots = self._request.slots
        unfinished = next((slot.trajectory for slot in slots if slot.waiting), None)
        steps = [slot.trajectory.step_index for slot in slots]
        if unfinished is None or self._drawn == steps:
            return None
        self._drawn = steps
        began = time.monotonic()
        base = self._context.model_loader.base()
        trajectories = [slot.trajectory for slot in slots]
        drawn = estimates(base, unfinished, trajectories, decoder=self._decoder)
        self._seconds = time.monotonic() - began
        return drawn

    def _save(self, first: Image.Image, small: Sequence[Image.Image | None]) -> None:
        each: list[bytes | None] = [None] * self._image_count
        for index, picture in enumerate(small, start=self._first_index):
            if picture is not None:
                each[index] = encode_estimate(picture, max_bytes=MAX_ROUGH_BYTES)
        checkpoints.save_live_previews(
            self._context.service, self._claimed, first=encode_estimate(first), each=each
        )
