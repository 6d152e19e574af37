"""Calls of the device that are no steps of images: those of a training, and short urgent ones.

Two threads that compute at the same time own two pools of OpenMP threads, and on a CPU each step of
a training took 1.7 times as long. So the engine's thread runs the calls of a training, too. People
wait for a generation, and look at a training now and then, so sampling goes first: a call of a
training runs once images have been sampled for `patience_seconds`, and for a few times as long as
the last call took. What a generation needs apart from its steps, such as measuring its image, is
urgent: it runs before the next step.
"""

from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from threading import Condition
from typing import Any

from worker.engine.requests import on_device
from worker.engine.waiting import WhileWaiting, wait_for

# A training gets a fifth of a device on which others sample.
_SAMPLING_PER_CALL = 4.0


@dataclass(eq=False)
class DeviceCall:
    """A piece of work for the device, and whether a generation waits for it."""

    act: Callable[[], Any]
    urgent: bool
    on_device: bool = False  # whether the device works at it now
    future: "Future[Any]" = field(default_factory=Future)

    def take(self) -> None:
        """Do it; the future has what came of it."""
        with on_device([self]):
            try:
                self.future.set_result(self.act())
            except BaseException as error:  # for the thread that waits for the result
                self.future.set_exception(error)


class DeviceCalls:
    """The calls that wait, in order of age, and when the next of them is due."""

    def __init__(self, changed: Condition, *, patience_seconds: float) -> None:
        """`changed` is the engine's, and guards the calls that wait."""
        self._changed = changed
        self._patience_seconds = patience_seconds
        self._waiting: list[DeviceCall] = []
        self._call_seconds = 0.0  # of the last call that was not urgent
        self._sampled_seconds = 0.0  # since then

    def __bool__(self) -> bool:
        """Whether any call waits."""
        return bool(self._waiting)

    def add(self, call: DeviceCall) -> None:
        """Queue a call; the caller holds the lock, and notifies the engine."""
        self._waiting.append(call)

    def result_of(self, call: DeviceCall, while_waiting: WhileWaiting | None) -> Any:
        """Wait for a call's end; return or raise what came of it, or what `while_waiting` raises.

        A call that has begun is always waited for: what it works on must not change meanwhile.
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
        """Take the call that is due, if any: an urgent one, or one for which enough was sampled."""
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
        """Count a call; an urgent one is part of the sampling."""
        if call.urgent:
            self._sampled_seconds += seconds
        else:
            self._call_seconds, self._sampled_seconds = seconds, 0.0

    def sampled(self, seconds: float) -> None:
        """Count a step of images."""
        self._sampled_seconds += seconds

    def refuse(self, error: Exception) -> None:
        """End all calls that wait with an error."""
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
