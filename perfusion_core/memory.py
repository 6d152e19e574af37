"""When a device's memory does not suffice, and how to give some of it back."""

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


def free_memory() -> None:
    """Give cached device memory back, after an allocation has failed."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
