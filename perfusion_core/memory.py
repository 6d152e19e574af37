"""Recognises errors caused by too little memory, tells what is free, and gives memory back."""

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

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


def free_bytes(device: "torch.device") -> int | None:
    """Return the memory that this process can still use on the device; None if nothing tells.

    For a CPU this is the machine's available memory, or what a container's limit leaves of it.
    """
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    known = [figure for figure in (_free_on_machine(), _free_in_container()) if figure is not None]
    return min(known, default=None)


def _free_on_machine() -> int | None:
    for line in _lines("/proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):  # macOS does not tell
        return None


def _free_in_container(folder: str = "/sys/fs/cgroup") -> int | None:
    limit, used = _lines(f"{folder}/memory.max"), _lines(f"{folder}/memory.current")
    if not (limit and used) or limit[0] == "max":
        return None
    # The kernel drops cached files before it refuses memory.
    cached = [line for line in _lines(f"{folder}/memory.stat") if line.startswith("inactive_file ")]
    return int(limit[0]) - int(used[0]) + sum(int(line.split()[1]) for line in cached)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("ascii").splitlines()
    except OSError:
        return []
