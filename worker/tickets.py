"""What the engine hands out: tickets for requests, places in line for their images, and turns."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from PIL import Image

from perfusion_core.attention_maps import WordMap
from perfusion_core.denoise import ImageRequest, Trajectory

OnStep = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A finished image, the seed of its noise, and its maps where the request wants them."""

    image: Image.Image
    seed: int
    maps: tuple[WordMap, ...] | None = None


@dataclass(eq=False, kw_only=True)
class Ticket:
    """One request in the engine: wait for its `result`, or `cancel` it at any time.

    Nothing else is in the batches of a request that samples `alone`.
    """

    request: ImageRequest
    owner: str
    on_step: OnStep | None
    alone: bool = False
    cancelled: bool = False
    in_hand: bool = False  # whether the device works at it now
    places: "list[Place]" = field(default_factory=list)
    future: "Future[list[Sample]]" = field(default_factory=Future)

    def cancel(self) -> None:
        """Leave the engine at the next step; after the end it changes nothing."""
        self.cancelled = True

    def result(self, *, timeout_seconds: float | None = None) -> list[Sample]:
        """Return the images, raise what went wrong, or TimeoutError when they take longer."""
        return self.future.result(timeout_seconds)

    @property
    def ended(self) -> bool:
        """Whether there is a result or an error."""
        return self.future.done()

    def end(self, error: Exception | None = None) -> None:
        """Resolve the future: with `error`, or with the images that there are."""
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result([one.sample for one in self.places if one.sample is not None])
        self.places = []

    def report(self) -> None:
        """Tell whoever watches how many steps are done, over all images."""
        if self.on_step is not None:
            done = sum(one.trajectory.step_index for one in self.places)
            self.on_step(done, sum(one.trajectory.total_steps for one in self.places))


LineKey: TypeAlias = tuple[tuple[int, ...], Ticket | None]
"""What images have in common that may share a batch: the latent shape, and a ticket if alone."""


@dataclass(eq=False, kw_only=True)
class Place:
    """One image of a ticket, and where in line it stands (worker.line)."""

    ticket: Ticket
    trajectory: Trajectory
    tag: float
    sample: Sample | None = None

    @property
    def waiting(self) -> bool:
        """Whether it wants another step."""
        return not self.trajectory.finished

    @property
    def line(self) -> LineKey:
        """The line that it stands in."""
        return self.trajectory.latent_shape, self.ticket if self.ticket.alone else None


@dataclass(eq=False)
class Turn:
    """What somebody wants done on the device, and whether a generation waits for it."""

    act: Callable[[], Any]
    urgent: bool
    in_hand: bool = False  # whether the device works at it now
    future: "Future[Any]" = field(default_factory=Future)

    def take(self) -> None:
        """Do it; the future has what came of it."""
        try:
            self.future.set_result(self.act())
        except BaseException as error:  # it belongs to who waits for the result
            self.future.set_exception(error)
