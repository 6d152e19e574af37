"""Counting and timing that several benchmarks share: seconds, operations, bytes."""

import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from torch.utils.weak import WeakIdKeyDictionary

Work = Callable[[], object]

_aten = torch.ops.aten
# The counter knows CUDA's attention kernels and not the CPU's.
_CPU_ATTENTION = {
    _aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
    ),
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}


def wait() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Work) -> float:
    """How long `work` takes, the device's part included."""
    wait()
    begun = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begun


def in_rounds(works: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Return seconds by name, a list of rounds. Each round runs every work once, in turn.

    So other load of the machine falls on all of them alike. One round before does not count.
    """
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work))
    return times


def ratio(one: list[float], other: list[float]) -> float:
    """Return the median over rounds of one's time over the other's in the same round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def flops(work: Work) -> int:
    """Count floating point operations of matrix products, convolutions and attention."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        work()
    return int(counter.get_total_flops())


def peak_bytes(work: Work) -> int:
    """Return the most memory that `work` holds at once, beyond what was held before it."""
    if torch.cuda.is_available():
        wait()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        wait()
        return int(torch.cuda.max_memory_allocated() - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most


class _Traffic(TorchDispatchMode):
    """Sums what every operation reads and writes; views do neither."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        written = [leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        if not func.is_view:
            self.bytes += sum(tensor.nbytes for tensor in read + written)
        return made


def traffic_bytes(work: Work) -> int:
    """Return what operations read and write in all, as if nothing were cached between them."""
    traffic = _Traffic()
    with traffic:
        work()
    return traffic.bytes


@contextmanager
def kept_bytes(except_for: Iterator[Tensor]) -> Iterator[list[int]]:
    """Collect the bytes that operations in the block keep for their backward pass, one by one."""
    sizes: list[int] = []
    known = {tensor.untyped_storage()._cdata for tensor in except_for}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            known.add(storage._cdata)
            sizes.append(storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield sizes


class _Held(TorchDispatchMode):
    """Sums the storages that operations make, as long as something refers to them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.held = self.most = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {id(s) for s in _storages((args, kwargs))}
        for storage in _storages(made):
            if id(storage) not in given and storage not in self._known:
                self._known[storage] = None
                self.held += storage.nbytes()
                self.most = max(self.most, self.held)
                weakref.finalize(storage, self._free, storage.nbytes())
        return made

    def _free(self, count: int) -> None:
        self.held -= count


def _storages(tree: Any) -> list[Any]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def held_bytes(work: Work) -> int:
    """Return the most bytes that operations of `work` hold at once; tensors may have no data."""
    counter = _Held()
    with counter:
        work()
    return counter.most
