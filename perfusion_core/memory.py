"""When a device's memory does not suffice, and how to give some of it back."""

import gc
import sys

# torch.OutOfMemoryError is a RuntimeError, and so is what the CPU's allocator and CUDA's libraries
# raise: cuBLAS and cuDNN allocate workspaces of their own, and cuDNN's heuristics find no engine
# where none fits. By their words, since a worker must not load torch only to look at an error.
_WORDS = (
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that the device's (or the machine's) memory did not suffice."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def free_memory() -> None:
    """Give cached device memory back, after an allocation has failed."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
