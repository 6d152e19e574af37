"""The engine: the one thread of this process that works on the device.

The engine samples for all generation jobs. Requests may join and leave the engine between any two
steps. Each step takes the first image of the queue (worker.engine.fair_queue), and as many other
images of the same latent shape as fit. The step advances these images in one U-Net batch
(perfusion_core.sampling.sampler). The failure of one request does not affect other requests.

The same image sampled alone and in a batch differs by at most one grey level, because kernels are
chosen by the size of the batch. The content of a batch's other rows has no effect on an image. An
exact engine pads all batches of a shape to one size and decodes images one by one. So an exact
engine makes equal images, whether an image is sampled alone or in a batch.

Device calls, such as a step of a training, run between two steps (worker.engine.device_calls).
Nothing can interrupt a step. If the device hangs or breaks, only the jobs whose work is `on_device`
use up an attempt.
"""

import time
from collections.abc import Callable, Sequence
from threading import Condition, Event, Thread
from typing import TypeVar

import structlog

from perfusion_core.base_model import BaseModel
from perfusion_core.memory import free_memory, is_out_of_memory
from perfusion_core.sampling import sampler
from perfusion_core.sampling.sample import Sample
from perfusion_core.sampling.sampler import ImageRequest
from worker.engine.device import is_broken
from worker.engine.device_calls import DeviceCall, DeviceCalls
from worker.engine.fair_queue import FairQueue
from worker.engine.packing import Packing
from worker.engine.requests import OnStep, Request, Slot, on_device
from worker.engine.waiting import WhileWaiting
from worker.errors import Draining, OutOfMemory

T = TypeVar("T")
# Other requests wait while images are decoded, so only a few images are decoded at a time.
_DECODED_AT_ONCE = 4
_log = structlog.get_logger("perfusion.worker")


class Engine:
    """The engine, which batches the images of many requests; any thread may call `submit`."""

    def __init__(
        self,
        base: Callable[[], BaseModel],
        *,
        max_rows: int | None = None,
        exact: bool = False,
        patience_seconds: float = 2.0,
        broken: Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`base` returns the base model; `max_rows` limits a U-Net batch (2 rows per image).

        With `exact` all batches of a shape have the same number of rows. The engine sets `broken`
        and stops if the device fails and does not recover.
        """
        self._base = base
        self._exact = exact
        self._broken = broken or Event()
        self._clock = clock
        self._changed = Condition()
        self._arrivals: list[Request] = []
        self._calls = DeviceCalls(self._changed, patience_seconds=patience_seconds)
        # Only the engine's thread uses the next three attributes. Requests are in order of age.
        self._requests: list[Request] = []
        self._fair_queue = FairQueue()
        self._packing = Packing(base, max_rows=max_rows, exact=exact)
        self._stopped = False
        self.moved_at = clock()
        """The time at which the device last finished a piece of work. Waiting jobs use it to detect
        a hang."""
        self._thread = Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    def stop(self, *, timeout_seconds: float | None = None) -> bool:
        """Stop after the present step; the remaining requests raise Draining.

        Return False if the present step does not end in time, because nothing can interrupt a step.
        """
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def submit(
        self,
        *image_requests: ImageRequest,
        owner: str = "",
        on_step: OnStep | None = None,
        alone: bool = False,
    ) -> Request:
        """Queue a request; `on_step(steps done, steps in all)` is called as it advances.

        The result is the images of all `image_requests`, in their order. If one of them fails, all
        of them fail.

        Owners share the device fairly, regardless of how many images each owner requests. With
        `alone`, the request shares no batch with other requests.
        """
        request = Request(image_requests=image_requests, owner=owner, on_step=on_step, alone=alone)
        with self._changed:
            if self._stopped:
                request.end(Draining())
            else:
                self._arrivals.append(request)
                self._changed.notify()
        return request

    def run_on_device(
        self,
        act: Callable[[], T],
        *,
        urgent: bool = False,
        while_waiting: WhileWaiting | None = None,
    ) -> T:
        """Run `act`, such as a training's step, on the device; return its result or raise errors.

        An `urgent` call runs before the next step; use `urgent` for short work that a generation
        needs. `while_waiting` is called now and then; the argument of `while_waiting` says whether
        the device is running `act`. If `while_waiting` raises, a call that has not begun is
        withdrawn. Raises Draining if the engine stops first.
        """
        call = DeviceCall(act, urgent)
        with self._changed:
            if self._stopped:
                raise Draining
            self._calls.add(call)
            self._changed.notify()
        result: T = self._calls.result_of(call, while_waiting)
        return result

    def _run(self) -> None:
        while self._wait_for_work():
            began = self.moved_at = self._clock()
            if (call := self._calls.next(sampling=bool(self._requests))) is not None:
                call.take()
                self._calls.taken(call, self._clock() - began)
                self._stop_if_broken(call.future.exception())
                continue
            try:
                self._cycle()
            except Exception as error:
                # A bug here must not stop the engine: the present requests fail, later requests do
                # not.
                _log.exception("engine.failed")
                for request in self._requests:
                    self._end(request, error)
            self._calls.sampled(self._clock() - began)
            self._requests = [request for request in self._requests if not request.ended]
        for request in self._requests + self._arrivals:
            self._end(request, Draining())
        self._calls.refuse(Draining())

    def _wait_for_work(self) -> bool:
        if not self._requests:
            self._packing.forget()
        with self._changed:
            self._changed.wait_for(
                lambda: self._arrivals or self._requests or self._calls or self._stopped
            )
            self._requests += self._arrivals
            self._arrivals = []
            return not self._stopped

    def _stop_if_broken(self, error: BaseException | None) -> None:
        """Stop if the device is broken; waiting jobs end with Draining and lose no attempt."""
        if error is not None and is_broken(error):
            self._broken.set()
            with self._changed:
                self._stopped = True

    def _cycle(self) -> None:
        for request in self._requests:
            if request.cancelled:
                self._end(request)
            elif not request.slots:
                self._begin(request)
        waiting = self._waiting()
        slots = self._fair_queue.next_batch(waiting, self._packing.room_for)
        if slots:
            self._fair_queue.charge(slots, waiting=waiting)
            self._advance(slots)
        self._collect()

    def _begin(self, request: Request) -> None:
        def start() -> None:
            trajectories = [
                trajectory
                for image_request in request.image_requests
                for trajectory in sampler.start(self._base(), image_request)
            ]
            request.slots = self._fair_queue.join(request, trajectories, waiting=self._waiting())

        if (error := self._attempt([request], start)) is not None:
            self._end(request, error)

    def _end(self, request: Request, error: Exception | None = None) -> None:
        if not request.ended:
            self._fair_queue.leave(request)
            request.end(error)

    def _waiting(self) -> list[Slot]:
        return [slot for request in self._requests for slot in request.slots if slot.waiting]

    def _advance(self, slots: Sequence[Slot]) -> None:
        before = [slot.trajectory.step_index for slot in slots]
        requests = list(dict.fromkeys(slot.request for slot in slots))
        error = self._attempt(
            requests, lambda: sampler.step(self._base(), self._packing.batch_of(slots))
        )
        if error is None:
            for request in requests:
                if (error := self._attempt([], request.report)) is not None:
                    self._end(request, error)
            return
        self._packing.drop_batch()
        if isinstance(error, OutOfMemory) and (rows := self._packing.halve(slots)):
            _log.warning("engine.batch_halved", rows=rows)
        elif len(slots) == 1 or self._broken.is_set():
            for request in requests:
                self._end(request, error)
        else:
            # Each image repeats the step alone, which shows which image failed.
            for slot, index in zip(slots, before, strict=True):
                if not slot.request.ended and slot.trajectory.step_index == index:
                    self._advance([slot])

    def _collect(self) -> None:
        """Decode some finished images; end each request whose images are all decoded."""
        finished = [
            slot
            for request in self._requests
            for slot in request.slots
            if not slot.waiting and slot.sample is None
        ]
        if not finished:
            return
        together = [slot for slot in finished if slot.queue_key == finished[0].queue_key]
        together = together[:_DECODED_AT_ONCE]
        for group in [[slot] for slot in together] if self._exact else [together]:
            self._decode(group)
        for request in dict.fromkeys(slot.request for slot in together):
            if all(slot.sample is not None for slot in request.slots):
                self._end(request)

    def _decode(self, slots: Sequence[Slot]) -> None:
        def decode() -> None:
            images = sampler.decode_together(self._base(), [slot.trajectory for slot in slots])
            for slot, image in zip(slots, images, strict=True):
                slot.sample = Sample.of(slot.trajectory, image)

        requests = list(dict.fromkeys(slot.request for slot in slots))
        error = self._attempt(requests, decode)
        if error is not None and (len(slots) == 1 or self._broken.is_set()):
            for request in requests:
                self._end(request, error)
        elif error is not None:
            for slot in slots:
                if not slot.request.ended:
                    self._decode([slot])

    def _attempt(self, work: Sequence[Request], act: Callable[[], object]) -> Exception | None:
        """Run `act` for these requests on the device; return the error of `act`, or None.

        Lack of memory is returned as a new OutOfMemory, created after the handler. The original
        error refers to frames that hold memory, and the next attempt needs this memory.
        """
        if self._stopped:
            return Draining()  # a broken device would fail here, too
        try:
            with on_device(work):
                act()
        except Exception as error:
            if not is_out_of_memory(error):
                self._stop_if_broken(error)
                return error
        else:
            return None
        free_memory()
        return OutOfMemory(
            "The device's memory does not suffice for an image of this size: ask for a smaller "
            "width and height."
        )
