"""Chooses the backend of a U-Net: by device, and by measuring once."""

import logging
import statistics
import time
from typing import Any

import torch

from perfusion_core.backends.backend import Backend, EagerBackend, UNetInput, example_input
from perfusion_core.devices.options import DeviceOptions, DtypeName
from perfusion_core.errors import BaseModelError
from perfusion_core.memory import free_bytes

# A smaller U-Net takes a few milliseconds a step, which a graph cannot repay.
_WORTH_A_GRAPH = 1_000_000
_TOKENS = 77
_FLOAT32 = 4
# While a graph is compiled, it holds the weights as they were read and as its kernels want them.
# A system that runs out of memory ends the process without an error, so this is checked before.
_COPIES = 2
_ROUNDS = 3
_FASTER = 0.9  # of the time that torch takes; a smaller gain could be noise
# Largest relative error of a prediction: rounding in another order, and rounding to bfloat16.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2}
_log = logging.getLogger("perfusion.sampling")


def choose_backend(
    unet: Any, options: DeviceOptions, *, device: torch.device, packed_width: int
) -> Backend:
    """Return what computes a U-Net with packed attention while images are sampled.

    `auto` on a CPU builds a graph, compares its prediction with torch's, measures both, and keeps
    the graph if it is faster. A graph of dtype `auto` is in bfloat16 on a CPU that knows it. Raises
    BaseModelError if a backend that is asked for by name cannot be had.
    """
    eager, wanted = EagerBackend(unet), options.backend
    if wanted == "eager" or (wanted == "auto" and not _may_gain(unet, options, device)):
        return eager
    rows = example_input(
        unet, rows=2, side=int(unet.config.sample_size), tokens=_TOKENS, packed_width=packed_width
    )
    try:
        graph = _graph(unet, options.dtype, device=device, packed_width=packed_width)
        _check(graph, against=eager, rows=rows)
    except (BaseModelError, ImportError, MemoryError, RuntimeError) as error:
        if wanted != "auto":
            raise BaseModelError(
                f"The backend {wanted} cannot be used: {error}. Set PERFUSION_BACKEND to auto or "
                "eager."
            ) from error
        _log.warning("The U-Net runs in torch: %s", error, exc_info=True)
        return eager
    ratio = statistics.median(_seconds(graph, rows) / _seconds(eager, rows) for _ in range(_ROUNDS))
    _log.info("A step in %s takes %.2f of its time in torch.", graph.name, ratio)
    return graph if wanted != "auto" or ratio < _FASTER else eager


def _may_gain(unet: Any, options: DeviceOptions, device: torch.device) -> bool:
    weights = sum(weight.numel() for weight in unet.parameters())
    fused = options.attention in ("auto", "sdpa")  # the others say that memory is short
    if device.type != "cpu" or not fused or weights < _WORTH_A_GRAPH:
        return False
    free = free_bytes(device)
    if free is not None and free < _COPIES * weights * _FLOAT32:
        _log.info("The U-Net runs in torch: a graph of it does not fit into free memory.")
        return False
    return True


def _graph(unet: Any, dtype: DtypeName, *, device: torch.device, packed_width: int) -> Backend:
    if device.type != "cpu":
        raise BaseModelError("graphs of OpenVINO are for CPUs")
    # Imported here, because GPUs do without.
    from perfusion_core.backends import openvino_graph

    precision: openvino_graph.Precision = (
        "float32" if dtype == "float32" or not openvino_graph.knows_bfloat16() else "bfloat16"
    )
    return openvino_graph.OpenVinoBackend(unet, packed_width=packed_width, precision=precision)


def _check(graph: Backend, *, against: Backend, rows: UNetInput) -> None:
    """Raise BaseModelError if the graph predicts something else than torch."""
    expected, told = against(rows), graph(rows)
    error = float((told - expected).norm() / expected.norm())
    if not error <= _TOLERANCE[graph.precision]:  # also if it is not a number
        raise BaseModelError(f"its predictions differ by {error:.2g} from torch's")


def _seconds(backend: Backend, rows: UNetInput) -> float:
    began = time.perf_counter()
    backend(rows)
    return time.perf_counter() - began
