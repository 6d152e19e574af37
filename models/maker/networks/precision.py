"""Which numbers a device computes with: bfloat16 where it is quick, float32 elsewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

_CPU_INFO = Path("/proc/cpuinfo")
_QUICK = frozenset({"amx_bf16", "avx512_bf16"})


def autocast(device: str) -> torch.autocast:
    """A context in which products are in bfloat16, if the device has instructions for them.

    A CPU without them imitates bfloat16 and is ten times slower than with float32.
    """
    kind = torch.device(device).type
    quick = kind == "cuda" or (kind == "cpu" and cpu_has_bfloat16(_cpu_info()))
    return torch.autocast(kind, torch.bfloat16, enabled=quick)


def cpu_has_bfloat16(cpu_info: str) -> bool:
    """Whether /proc/cpuinfo names AMX or AVX512 instructions for bfloat16."""
    flags = next((line for line in cpu_info.splitlines() if line.startswith("flags")), "")
    return not _QUICK.isdisjoint(flags.split())


@cache
def _cpu_info() -> str:
    return _CPU_INFO.read_text() if _CPU_INFO.exists() else ""
