"""Chooses the backend of a U-Net: by device, and by measuring once."""

import logging
import statistics
import time
from typing import Any

import torch

from perfusion_core.backends.backend import Backend, EagerBackend, UNetInput, example_input
from perfusion_core.backends.cuda_graphs import CudaGraphBackend
from perfusion_core.devices.options import DeviceOptions
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
_TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
_log = logging.getLogger("perfusion.sampling")


def choose_backend(
    unet: Any,
    options: DeviceOptions,
    *,
    device: torch.device,
    packed_width: int,
    leaves_device: bool = False,
) -> Backend:
    """Return what computes a U-Net with packed attention while images are sampled.

    `auto` records or builds the graph that suits the device, compares its prediction with torch's,
    measures both, and keeps the graph if it is faster. A graph of dtype `auto` on a CPU is in
    bfloat16 if the CPU knows it. `leaves_device` says that the U-Net is offloaded while it rests.
    Raises BaseModelError if a backend that is asked for by name cannot be had.
    """
    eager, wanted = EagerBackend(unet), options.backend
    may_gain = not leaves_device and _may_gain(unet, options, device)
    if wanted == "eager" or (wanted == "auto" and not may_gain):
        return eager
    rows = example_input(
        unet, rows=2, side=int(unet.config.sample_size), tokens=_TOKENS, packed_width=packed_width
    ).map(lambda tensor: tensor.to(device))
    try:
        if leaves_device:
            raise BaseModelError("a graph needs the U-Net on its device, and it is offloaded")
        graph = _graph(unet, options, device=device, packed_width=packed_width)
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
    if device.type == "cuda":
        return True
    weights = sum(weight.numel() for weight in unet.parameters())
    fused = options.attention in ("auto", "sdpa")  # the others say that memory is short
    if device.type != "cpu" or not fused or weights < _WORTH_A_GRAPH:
        return False
    free = free_bytes(device)
    if free is not None and free < _COPIES * weights * _FLOAT32:
        _log.info("The U-Net runs in torch: a graph of it does not fit into free memory.")
        return False
    return True


def _graph(
    unet: Any, options: DeviceOptions, *, device: torch.device, packed_width: int
) -> Backend:
    if device.type == "cuda" and options.backend != "openvino":
        return CudaGraphBackend(unet, compiled=options.backend == "compiled")
    if device.type != "cpu" or options.backend not in ("auto", "openvino"):
        raise BaseModelError(f"it is not for {device.type}")
    # Imported here, because GPUs do without.
    from perfusion_core.backends import openvino_graph

    in_float32 = options.dtype == "float32" or not openvino_graph.knows_bfloat16()
    return openvino_graph.OpenVinoBackend(
        unet, packed_width=packed_width, precision="float32" if in_float32 else "bfloat16"
    )


def _check(graph: Backend, *, against: Backend, rows: UNetInput) -> None:
    """Raise BaseModelError if the graph predicts something else than torch."""
    expected, told = against(rows), graph(rows)
    error = float((told - expected).norm() / expected.norm())
    if not error <= _TOLERANCE[graph.precision]:  # also if it is not a number
        raise BaseModelError(f"its predictions differ by {error:.2g} from torch's")


def _seconds(backend: Backend, rows: UNetInput) -> float:
    began = time.perf_counter()
    backend(rows).cpu()  # waits for the device
    return time.perf_counter() - began
