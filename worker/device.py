"""What a device's errors mean, and how its memory is given back."""

import gc
import sys


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
