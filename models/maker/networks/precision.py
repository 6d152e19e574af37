"""The precision of each device: bfloat16 where it is fast, float32 elsewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

_CPU_INFO = Path("/proc/cpuinfo")
_QUICK = frozenset({"amx_bf16", "avx512_bf16"})


def autocast(device: str) -> torch.autocast:
    """Return a context that computes products in bfloat16 if the device has instructions for it.

    A CPU without them emulates bfloat16, which is ten times slower than float32.
    """
    kind = torch.device(device).type
    quick = kind == "cuda" or (kind == "cpu" and cpu_has_bfloat16(_cpu_info()))
    return torch.autocast(kind, torch.bfloat16, enabled=quick)


def cpu_has_bfloat16(cpu_info: str) -> bool:
    """Return whether /proc/cpuinfo names AMX or AVX512 instructions for bfloat16."""
    flags = next((line for line in cpu_info.splitlines() if line.startswith("flags")), "")
    return not _QUICK.isdisjoint(flags.split())


@cache
def _cpu_info() -> str:
    return _CPU_INFO.read_text() if _CPU_INFO.exists() else ""
