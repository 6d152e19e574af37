"""Recognises errors caused by too little memory, and gives cached device memory back."""

import gc
import sys

# torch.OutOfMemoryError is a RuntimeError, as are the errors of the CPU's allocator and of CUDA's
# libraries: cuBLAS and cuDNN allocate workspaces of their own, and cuDNN's heuristics find no
# engine if none fits. The errors are recognised by the words of their messages, since a worker must
# not load torch for this.
_WORDS = (
    "can't allocate memory",
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "unable to find an engine to execute this computation",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` means that the device's (or the machine's) memory did not suffice."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def free_memory() -> None:
    """Give cached device memory back to the device, after an allocation has failed."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
