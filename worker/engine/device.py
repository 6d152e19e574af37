"""How a step gets onto the device, what its errors mean, how its memory is given back."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from perfusion_core.memory import free_memory, is_out_of_memory

__all__ = ["RunOnDevice", "free_memory", "is_broken", "is_out_of_memory", "load_apart"]

T = TypeVar("T")


class RunOnDevice(Protocol):
    """Runs a step on the device when it may, such as `Engine.run_on_device`."""

    def __call__(self, act: Callable[[], T], /) -> T:
        """Return what `act` returns, raise what it raises."""


def load_apart(load: Callable[[], T]) -> T:
    """Return what `load` returns, from a thread of its own.

    In the engine's thread everybody would wait for it; a job's own one would keep a pool of OpenMP
    threads from it for as long as it lives, beside the device's.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="load") as loader:
        return loader.submit(load).result()


def is_broken(error: BaseException) -> bool:
    """Whether `error` leaves this process without a usable device: only a new process helps."""
    if is_out_of_memory(error):
        return False
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)
