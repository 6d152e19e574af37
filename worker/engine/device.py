"""What a device's errors mean, and how something is loaded for it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from perfusion_core.memory import is_out_of_memory

T = TypeVar("T")


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
