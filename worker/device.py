"""Turns on one device: sampling and training share it step by step, sampling first.

People wait in front of a generation and look in on a training now and then. But a queue of
generations that never empties must not stop a training either, so one that has waited for
`patience_seconds` gets one turn.
"""

import gc
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Turns:
    """One step on the device at a time, of whichever kind."""

    def __init__(self, *, patience_seconds: float = 2.0) -> None:
        self._patience_seconds = patience_seconds
        self._free = Condition()
        self._busy = False
        self._generations_waiting = 0
        self._trainings_waiting_since: list[float] = []

    @contextmanager
    def generation(self) -> Iterator[None]:
        """Hold the device for one step of sampling."""
        with self._free:
            self._generations_waiting += 1
            try:
                self._free.wait_for(lambda: not self._busy and not self._training_is_overdue())
            finally:
                self._generations_waiting -= 1
            self._busy = True
        with self._released_at_the_end():
            yield

    @contextmanager
    def training(self) -> Iterator[None]:
        """Hold the device for one step of training, once no sampling wants it."""
        with self._free:
            since = time.monotonic()
            self._trainings_waiting_since.append(since)
            try:
                while self._busy or (self._generations_waiting and not self._training_is_overdue()):
                    # Becoming overdue makes no sound, so look again after a while.
                    self._free.wait(timeout=self._patience_seconds / 4)
            finally:
                self._trainings_waiting_since.remove(since)
            self._busy = True
        with self._released_at_the_end():
            yield

    def _training_is_overdue(self) -> bool:
        latest = time.monotonic() - self._patience_seconds
        return any(since <= latest for since in self._trainings_waiting_since)

    @contextmanager
    def _released_at_the_end(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._free:
                self._busy = False
                self._free.notify_all()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that the device's (or the machine's) memory did not suffice."""
    if isinstance(error, MemoryError):
        return True
    # torch.OutOfMemoryError is a RuntimeError; so is what the CPU's allocator and CUDA's libraries
    # raise. By their words, since a worker must not load torch only to look at an error.
    words = ("can't allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def is_broken(error: BaseException) -> bool:
    """Whether `error` leaves this process without a usable device: only a new process helps."""
    if is_out_of_memory(error):
        return False
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)


def free_memory() -> None:
    """Give cached device memory back, after an allocation has failed."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
