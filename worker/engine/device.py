"""Recognises errors of a broken device, and loads models in a separate thread."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from perfusion_core.memory import is_out_of_memory

T = TypeVar("T")


def load_apart(load: Callable[[], T]) -> T:
    """Return the result of `load`, called in a new thread.

    Loading a model in the engine's thread would delay all jobs. Loading a model in a job's thread
    would create a second pool of OpenMP threads, which would exist until the job's thread ends.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="load") as loader:
        return loader.submit(load).result()


def is_broken(error: BaseException) -> bool:
    """Return whether the device is unusable in this process after `error`."""
    if is_out_of_memory(error):
        return False
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)
