"""A request in the engine, and a slot in the fair queue for each of its images."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from perfusion_core.sampling.sample import Sample
from perfusion_core.sampling.sampler import ImageRequest, Trajectory
from worker.engine.waiting import WhileWaiting, Work, wait_for

OnStep = Callable[[int, int], None]


@dataclass(eq=False, kw_only=True)
class Request:
    """One request in the engine: wait for its `result`, or `cancel` it at any time.

    Nothing else is in the batches of a request that samples `alone`.
    """

    image_request: ImageRequest
    owner: str
    on_step: OnStep | None
    alone: bool = False
    cancelled: bool = False
    on_device: bool = False  # whether the device works at it now
    slots: "list[Slot]" = field(default_factory=list)
    future: "Future[list[Sample]]" = field(default_factory=Future)

    def cancel(self) -> None:
        """Leave the engine at the next step; after the end this changes nothing."""
        self.cancelled = True

    def result(self, *, timeout_seconds: float | None = None) -> list[Sample]:
        """Return the images, raise what went wrong, or TimeoutError when they take longer."""
        return self.future.result(timeout_seconds)

    def wait(self, while_waiting: WhileWaiting) -> list[Sample]:
        """Return the images, or raise what went wrong; what `while_waiting` raises cancels."""
        try:
            wait_for(self, while_waiting)
            return self.result()
        finally:
            self.cancel()

    @property
    def ended(self) -> bool:
        """Whether there is a result or an error."""
        return self.future.done()

    def end(self, error: Exception | None = None) -> None:
        """Resolve the future: with `error`, or with the images that there are."""
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result([slot.sample for slot in self.slots if slot.sample is not None])
        self.slots = []

    def report(self) -> None:
        """Tell `on_step` how many steps are done, over all images."""
        if self.on_step is not None:
            done = sum(slot.trajectory.step_index for slot in self.slots)
            self.on_step(done, sum(slot.trajectory.total_steps for slot in self.slots))


QueueKey: TypeAlias = tuple[tuple[int, ...], Request | None]
"""What images that may share a batch have in common: the latent shape; alone, the request too."""


@dataclass(eq=False, kw_only=True)
class Slot:
    """One image of a request, and its tag in the fair queue (worker.engine.fair_queue)."""

    request: Request
    trajectory: Trajectory
    tag: float
    sample: Sample | None = None

    @property
    def waiting(self) -> bool:
        """Whether it wants another step."""
        return not self.trajectory.finished

    @property
    def queue_key(self) -> QueueKey:
        """The queue that it waits in."""
        return self.trajectory.latent_shape, self.request if self.request.alone else None


@contextmanager
def on_device(work: Sequence[Work]) -> Iterator[None]:
    """Mark requests or device calls as those that the device works at."""
    for item in work:
        item.on_device = True
    try:
        yield
    finally:
        for item in work:
            item.on_device = False
