"""How a step gets onto the device, what its errors mean, how its memory is given back."""

import gc
import sys
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class TakeTurn(Protocol):
    """Runs a step on the device when it may, such as `Engine.take_turn`."""

    def __call__(self, act: Callable[[], T], /) -> T:
        """Return what `act` returns, raise what it raises."""


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
