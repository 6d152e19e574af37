"""Requests in the engine, and the slots of their images in the fair queue."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from perfusion_core.sampling.sample import Sample
from perfusion_core.sampling.sampler import ImageRequest
from perfusion_core.sampling.trajectories import Trajectory
from worker.engine.waiting import WhileWaiting, Work, wait_for

OnStep = Callable[[int, int], None]


@dataclass(eq=False, kw_only=True)
class Request:
    """A request in the engine. Wait for its `result`, or `cancel` it at any time.

    A request that samples `alone` shares no batch with other requests.
    """

    image_requests: tuple[ImageRequest, ...]
    owner: str
    on_step: OnStep | None
    alone: bool = False
    cancelled: bool = False
    on_device: bool = False  # whether the device works at it now
    slots: "list[Slot]" = field(default_factory=list)
    future: "Future[list[Sample]]" = field(default_factory=Future)

    def cancel(self) -> None:
        """Leave the engine at the next step; cancelling an ended request has no effect."""
        self.cancelled = True

    def result(self, *, timeout_seconds: float | None = None) -> list[Sample]:
        """Return the images, or raise the request's error, or TimeoutError after the timeout."""
        return self.future.result(timeout_seconds)

    def wait(self, while_waiting: WhileWaiting) -> list[Sample]:
        """Return the images, or raise the request's error; an error of `while_waiting` cancels."""
        try:
            wait_for(self, while_waiting)
            return self.result()
        finally:
            self.cancel()

    @property
    def ended(self) -> bool:
        """Return whether there is a result or an error."""
        return self.future.done()

    def end(self, error: Exception | None = None) -> None:
        """Resolve the future with `error`, or else with the finished images."""
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result([slot.sample for slot in self.slots if slot.sample is not None])
        self.slots = []

    def report(self) -> None:
        """Call `on_step` with the number of finished steps over all images."""
        if self.on_step is not None:
            done = sum(slot.trajectory.step_index for slot in self.slots)
            self.on_step(done, sum(slot.trajectory.total_steps for slot in self.slots))


QueueKey: TypeAlias = tuple[tuple[int, ...], Request | None]
"""The key of a queue: the latent shape, and the request if it samples alone."""


@dataclass(eq=False, kw_only=True)
class Slot:
    """One image of a request, and its tag in the fair queue (worker.engine.fair_queue)."""

    request: Request
    trajectory: Trajectory
    tag: float
    sample: Sample | None = None

    @property
    def waiting(self) -> bool:
        """Return whether the image needs another step."""
        return not self.trajectory.finished

    @property
    def queue_key(self) -> QueueKey:
        """The key of the queue in which the image waits."""
        return self.trajectory.latent_shape, self.request if self.request.alone else None


@contextmanager
def on_device(work: Sequence[Work]) -> Iterator[None]:
    """Mark requests or device calls as `on_device` inside the block."""
    for item in work:
        item.on_device = True
    try:
        yield
    finally:
        for item in work:
            item.on_device = False
