"""Device calls: work on the device other than the steps of images.

Two threads that compute at the same time have two pools of OpenMP threads. With two pools on a CPU,
each step of a training took 1.7 times as long. So the engine's thread also runs the device calls of
trainings. Sampling has priority, because people wait for a generation but check a training only now
and then. While images are sampled, a training's call runs only after sampling has taken at least
`patience_seconds` and a few times the duration of the training's last call. Device calls of a
generation, such as measuring an image, are urgent: an urgent call runs before the next step of
images.
"""

from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from threading import Condition
from typing import Any

from worker.engine.requests import on_device
from worker.engine.waiting import WhileWaiting, wait_for

# A training gets a fifth of the device's time while images are sampled.
_SAMPLING_PER_CALL = 4.0


@dataclass(eq=False)
class DeviceCall:
    """A piece of work for the device, and whether a generation waits for it."""

    act: Callable[[], Any]
    urgent: bool
    on_device: bool = False  # whether the device is running this call
    future: "Future[Any]" = field(default_factory=Future)

    def take(self) -> None:
        """Run the call; its result or error goes to the future."""
        with on_device([self]):
            try:
                self.future.set_result(self.act())
            except BaseException as error:  # for the thread that waits for the result
                self.future.set_exception(error)


class DeviceCalls:
    """The waiting device calls, oldest first, and the rule that says which call is due."""

    def __init__(self, changed: Condition, *, patience_seconds: float) -> None:
        """`changed` is the engine's condition; its lock guards the waiting calls."""
        self._changed = changed
        self._patience_seconds = patience_seconds
        self._waiting: list[DeviceCall] = []
        self._call_seconds = 0.0  # of the last call that was not urgent
        self._sampled_seconds = 0.0  # since then

    def __bool__(self) -> bool:
        """Return whether any call is waiting."""
        return bool(self._waiting)

    def add(self, call: DeviceCall) -> None:
        """Queue a device call. The caller must hold the lock of `changed` and notify the engine."""
        self._waiting.append(call)

    def result_of(self, call: DeviceCall, while_waiting: WhileWaiting | None) -> Any:
        """Wait for a call; return its result, or raise its error or the error of `while_waiting`.

        If the call has begun, this method always waits for the call's end, because the data that
        the call uses must not change meanwhile.
        """
        if while_waiting is not None:
            try:
                wait_for(call, while_waiting)
            except BaseException:
                if not self._withdraw(call):
                    wait([call.future])
                raise
        return call.future.result()

    def next(self, *, sampling: bool) -> DeviceCall | None:
        """Remove and return the due device call, urgent calls first; None if no call is due."""
        with self._changed:
            enough = max(self._patience_seconds, _SAMPLING_PER_CALL * self._call_seconds)
            due = [call for call in self._waiting if call.urgent]
            if not due and (not sampling or self._sampled_seconds >= enough):
                due = self._waiting
            if not due:
                return None
            call = due[0]
            self._waiting.remove(call)
            return call

    def taken(self, call: DeviceCall, seconds: float) -> None:
        """Record the duration of a call; an urgent call counts as sampling."""
        if call.urgent:
            self._sampled_seconds += seconds
        else:
            self._call_seconds, self._sampled_seconds = seconds, 0.0

    def sampled(self, seconds: float) -> None:
        """Record the duration of a step of images."""
        self._sampled_seconds += seconds

    def refuse(self, error: Exception) -> None:
        """End all waiting calls with `error`."""
        with self._changed:
            waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.future.set_exception(error)

    def _withdraw(self, call: DeviceCall) -> bool:
        with self._changed:
            waits = call in self._waiting
            if waits:
                self._waiting.remove(call)
            return waits
