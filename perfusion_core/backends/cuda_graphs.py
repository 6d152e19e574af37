"""The U-Net as CUDA graphs, for GPUs of NVIDIA.

Torch launches some thousand kernels a step, one by one, and a small batch waits for the launches. A
graph launches all of them at once. It has fixed sizes, so there is one for each shape of latents
and each number of rows in `BUCKETS`, recorded when it is first needed.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from perfusion_core.backends.backend import EagerBackend, UNetInput

BUCKETS = (1, 2, 4, 8, 16, 32)
"""The numbers of rows that graphs are recorded for; a batch between two of them is padded."""

_MOST_GRAPHS = 24  # each one holds its inputs, its output and its list of kernels
_WARM_UPS = 3  # libraries choose their kernels and allocate their workspaces before a recording
_log = logging.getLogger("perfusion.sampling")

Work = Callable[[], Tensor]
Record = Callable[[Work], tuple[Callable[[], None], Tensor]]
"""Records work; returns what does it again, and the tensor that then holds the result."""


class CudaGraphBackend:
    """CUDA graphs of a U-Net with packed attention. Threads take turns.

    Batches of more rows than the largest bucket fill the GPU by themselves and run in torch.
    """

    def __init__(self, unet: Any, *, compiled: bool = False, record: Record | None = None) -> None:
        """Prepare the recording of graphs; `compiled` compiles the U-Net by `torch.compile` first.

        Compiling takes minutes for each size. `record` replaces the recording on a GPU.
        """
        self.name = "compiled" if compiled else "cuda-graphs"
        self._eager = EagerBackend(unet)
        self.precision = self._eager.precision
        self._recorded_from = self._eager
        if compiled:
            self._recorded_from = EagerBackend(_compile(unet))
        self._record = record or _Recorder(unet.device)
        self._graphs: OrderedDict[tuple[int, ...], _Graph | EagerBackend] = OrderedDict()
        self._lock = threading.Lock()

    @torch.no_grad()
    def __call__(self, rows: UNetInput) -> Tensor:
        """Return the prediction of all rows."""
        count = len(rows.latents)
        if count > BUCKETS[-1]:
            return self._eager(rows)
        size = next(bucket for bucket in BUCKETS if bucket >= count)
        sizes = (size, *rows.latents.shape[1:], *rows.packed.shape[1:])
        with self._lock:
            if sizes not in self._graphs:
                self._graphs[sizes] = self._recorded(rows, size)
                if len(self._graphs) > _MOST_GRAPHS:
                    self._graphs.popitem(last=False)
            self._graphs.move_to_end(sizes)
            return self._graphs[sizes](rows)

    def _recorded(self, rows: UNetInput, size: int) -> "_Graph | EagerBackend":
        try:
            return _Graph(self._recorded_from, rows, size, self._record)
        except RuntimeError as error:  # too little memory, or what a graph cannot record
            _log.warning("Batches of %d rows run in torch, without a graph: %s", size, error)
            return self._eager


class _Graph:
    """One graph, and the tensors that it reads and writes."""

    def __init__(self, eager: EagerBackend, rows: UNetInput, size: int, record: Record) -> None:
        self._given = rows.map(lambda tensor: _padded(tensor, size))
        self._replay, self._told = record(lambda: eager(self._given))

    def __call__(self, rows: UNetInput) -> Tensor:
        """Return the prediction of all rows. Rows of padding keep what they had before."""
        count = len(rows.latents)
        for own, given in zip(self._given.tensors.values(), rows.tensors.values(), strict=True):
            own[:count].copy_(given)
        self._replay()
        return self._told[:count].clone()


class _Recorder:
    """Records work on a GPU; all graphs use the same memory, since one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    def __call__(self, work: Work) -> tuple[Callable[[], None], Tensor]:
        with torch.cuda.device(self._device):
            return self._on_device(work)

    def _on_device(self, work: Work) -> tuple[Callable[[], None], Tensor]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as an upload's check, may allocate memory meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            told = work()
        return graph.replay, told


def _compile(unet: Any) -> Any:
    # Every size is compiled by itself, and torch's limit is lower.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_GRAPHS)
    return torch.compile(unet, dynamic=False, fullgraph=True)


def _padded(tensor: Tensor, size: int) -> Tensor:
    """Return a copy with `size` rows, the last one repeated."""
    return torch.cat([tensor, *[tensor[-1:]] * (size - len(tensor))])
