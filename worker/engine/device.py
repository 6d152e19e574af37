"""What a device's errors mean, and how something is loaded for it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from perfusion_core.memory import is_out_of_memory

T = TypeVar("T")


def load_apart(load: Callable[[], T]) -> T:
    """Return what `load` returns, from a thread of its own.

    In the engine's thread all jobs would wait for it. In the thread of a job it would leave a pool
    of OpenMP threads, next to the engine's, for as long as that thread lives.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="load") as loader:
        return loader.submit(load).result()


def is_broken(error: BaseException) -> bool:
    """Whether `error` leaves this process without a usable device: only a new process helps."""
    if is_out_of_memory(error):
        return False
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)
