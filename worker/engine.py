"""The engine: the one thread of this process that works on the device.

It samples for all generation jobs. Between any two steps jobs may join and leave. Each step takes
the oldest unfinished picture and as many others of its latent shape as fit, in order of age, and
advances them in one U-Net batch (perfusion_core.denoise). A job that fails does so alone.

A training takes its turns between them, in the same thread: two threads that compute at the same
time own two pools of OpenMP threads, and on a CPU each step of the training took 1.7 times as long.
People wait in front of a generation and look in on a training now and then, so sampling goes first;
but a training that has waited for `patience_seconds` gets one turn.
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Any, TypeVar

import structlog
from PIL import Image

from perfusion_core import denoise
from perfusion_core.attention_maps import WordMap
from perfusion_core.base_model import BaseModel
from perfusion_core.denoise import ImageRequest, Trajectory
from worker.device import free_memory, is_out_of_memory
from worker.errors import Draining, ImageDiverged, OutOfMemory

T = TypeVar("T")
OnStep = Callable[[int, int], None]
# A CPU gains little from wide batches, and they make the oldest wait for the youngest.
_MOST_ROWS_ON_CPU = 8
_MOST_ROWS = 32
_log = structlog.get_logger("perfusion.worker")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A finished picture, the seed of its noise, and its maps where the request wants them."""

    image: Image.Image
    seed: int
    maps: tuple[WordMap, ...] | None = None


@dataclass(eq=False, kw_only=True)
class Ticket:
    """One request in the engine: wait for its `result`, or `cancel` it at any time."""

    request: ImageRequest
    on_step: OnStep | None
    cancelled: bool = False
    trajectories: list[Trajectory] = field(default_factory=list)
    samples: dict[int, Sample] = field(default_factory=dict)
    future: "Future[list[Sample]]" = field(default_factory=Future)

    def cancel(self) -> None:
        """Leave the engine at the next step; after the end it changes nothing."""
        self.cancelled = True

    def result(self, *, timeout_seconds: float | None = None) -> list[Sample]:
        """Return the pictures, raise what went wrong, or TimeoutError when they take longer."""
        return self.future.result(timeout_seconds)

    @property
    def ended(self) -> bool:
        """Whether there is a result or an error."""
        return self.future.done()

    def end(self, error: Exception | None = None) -> None:
        """Resolve the future: with `error`, or with the pictures."""
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result([self.samples[index] for index in sorted(self.samples)])
        self.trajectories = []


_Row = tuple[Ticket, Trajectory]


@dataclass(frozen=True, eq=False)
class _Turn:
    """A step of a training, and since when it waits (monotonic seconds)."""

    act: Callable[[], Any]
    since: float = field(default_factory=time.monotonic)
    future: "Future[Any]" = field(default_factory=Future)

    def take(self) -> None:
        try:
            self.future.set_result(self.act())
        except BaseException as error:  # it belongs to who waits for the result
            self.future.set_exception(error)


class Engine:
    """Packs the trajectories of many requests into batches; `submit` from any thread."""

    def __init__(
        self,
        base: Callable[[], BaseModel],
        *,
        max_rows: int | None = None,
        patience_seconds: float = 2.0,
    ) -> None:
        """`base` is called once there is work; `max_rows` bounds a U-Net batch (2 per picture)."""
        self._base = base
        self._max_rows = max_rows
        self._patience_seconds = patience_seconds
        # Shapes whose batches did not fit into memory, and how many rows they may take since.
        self._rows_that_fit: dict[tuple[int, ...], int] = {}
        self._changed = Condition()
        self._arrivals: list[Ticket] = []
        self._turns: deque[_Turn] = deque()
        self._tickets: list[Ticket] = []  # in order of age; the engine's thread alone touches it
        self._stopped = False
        self._thread = Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present step; requests that are left raise Draining."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, request: ImageRequest, *, on_step: OnStep | None = None) -> Ticket:
        """Queue a request; `on_step(steps done, steps in all)` is called as it advances."""
        ticket = Ticket(request=request, on_step=on_step)
        with self._changed:
            if self._stopped:
                ticket.end(Draining())
            else:
                self._arrivals.append(ticket)
                self._changed.notify()
        return ticket

    def take_turn(self, act: Callable[[], T]) -> T:
        """Run `act`, one step of a training, on the device; return its result, raise its error.

        Raises Draining where the engine stops first.
        """
        turn = _Turn(act)
        with self._changed:
            if self._stopped:
                raise Draining
            self._turns.append(turn)
            self._changed.notify()
        result: T = turn.future.result()
        return result

    def _run(self) -> None:
        while self._wait_for_work():
            if (turn := self._next_turn()) is not None:
                turn.take()
                continue
            try:
                self._cycle()
            except Exception as error:
                # A bug here must not silence the engine: these requests fail, later ones do not.
                _log.exception("engine.failed")
                for ticket in self._tickets:
                    _fail(ticket, error)
            self._tickets = [ticket for ticket in self._tickets if not ticket.ended]
        for ticket in self._tickets + self._arrivals:
            _fail(ticket, Draining())
        for turn in self._turns:
            turn.future.set_exception(Draining())

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._arrivals or self._tickets or self._turns or self._stopped
            )
            if not self._tickets:
                self._rows_that_fit.clear()
            self._tickets += self._arrivals
            self._arrivals = []
            return not self._stopped

    def _next_turn(self) -> _Turn | None:
        """The training whose turn it is, if it is one's: nobody samples, or it is overdue."""
        with self._changed:
            overdue = time.monotonic() - self._patience_seconds
            if self._turns and (not self._tickets or self._turns[0].since <= overdue):
                return self._turns.popleft()
        return None

    def _cycle(self) -> None:
        for ticket in self._tickets:
            if ticket.cancelled:
                ticket.end()
            elif not ticket.trajectories:
                self._begin(ticket)
        batch = self._choose()
        if batch:
            self._advance(batch)
        for ticket in self._tickets:
            self._collect(ticket)

    def _begin(self, ticket: Ticket) -> None:
        try:
            ticket.trajectories = denoise.start(self._base(), ticket.request)
        except Exception as error:
            _fail(ticket, error)

    def _choose(self) -> list[_Row]:
        """The oldest unfinished trajectory, and those of its shape that fit beside it."""
        waiting = [
            (ticket, one)
            for ticket in self._tickets
            for one in ticket.trajectories
            if not one.finished
        ]
        if not waiting:
            return []
        shape = waiting[0][1].latent_shape
        room = self._rows_that_fit.get(shape, self._most_rows())
        batch: list[_Row] = []
        for ticket, one in waiting:
            if one.latent_shape == shape:
                if batch and one.rows > room:
                    break
                batch.append((ticket, one))
                room -= one.rows
        return batch

    def _advance(self, batch: list[_Row]) -> None:
        before = [one.step_index for _, one in batch]
        try:
            denoise.step(self._base(), [one for _, one in batch])
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0][0], error)
            elif is_out_of_memory(error):
                free_memory()
                rows = sum(one.rows for _, one in batch) // 2
                self._rows_that_fit[batch[0][1].latent_shape] = rows
                _log.warning("engine.batch_halved", rows=rows)
            else:
                # Whose fault it is shows when each takes the step alone.
                for row, index in zip(batch, before, strict=True):
                    if not row[0].ended and row[1].step_index == index:
                        self._advance([row])
            return
        for ticket in dict.fromkeys(ticket for ticket, _ in batch):
            if ticket.on_step is not None:
                done = sum(one.step_index for one in ticket.trajectories)
                ticket.on_step(done, sum(one.total_steps for one in ticket.trajectories))

    def _collect(self, ticket: Ticket) -> None:
        """Decode what has finished; a request with all its pictures is done."""
        for index, one in enumerate(ticket.trajectories):
            if one.finished and index not in ticket.samples:
                try:
                    ticket.samples[index] = self._decode(one)
                except Exception as error:
                    _fail(ticket, error)
                    return
        if ticket.trajectories and len(ticket.samples) == len(ticket.trajectories):
            ticket.end()

    def _decode(self, one: Trajectory) -> Sample:
        if not bool(one.latents.isfinite().all()):
            raise ImageDiverged(
                f"The image of seed {one.seed} diverged: a concept or the guidance is too strong. "
                "Lower the strengths or guidance_scale."
            )
        return Sample(
            image=denoise.decode(self._base(), one),
            seed=one.seed,
            maps=None if one.maps is None else one.maps.means(),
        )

    def _most_rows(self) -> int:
        if self._max_rows is None:
            on_cpu = self._base().device.type == "cpu"
            self._max_rows = _MOST_ROWS_ON_CPU if on_cpu else _MOST_ROWS
        return self._max_rows


def _fail(ticket: Ticket, error: Exception) -> None:
    if ticket.ended:
        return
    if is_out_of_memory(error):
        free_memory()
        error = OutOfMemory(
            "The device's memory does not suffice for an image of this size: ask for a smaller "
            "width and height."
        )
    ticket.end(error)
