"""Several processes that train one model: each on its own samples, with averaged gradients.

Several processes of one thread each are faster than one process of several threads: 49 samples a
second against 45 on two idle cores, and three times as many if other work runs. In one process
every parallel region waits for the slowest thread. Gradients pass through shared memory, and the
processes wait for each other once per step.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError

import torch
from torch import Tensor, nn
from torch import multiprocessing as torch_multiprocessing

log = logging.getLogger("maker")
_STOPS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Shared:
    """The memory and the barrier that the processes share."""

    buffers: Sequence[Sequence[Tensor]]  # two per process, each as large as the whole gradient
    barrier: Barrier


class Team:
    """One process's view of all that train together. For a single process averaging is a no-op."""

    def __init__(self, rank: int = 0, shared: Shared | None = None) -> None:
        self.rank = rank
        self.size = len(shared.buffers) if shared else 1
        self._shared = shared
        self._mean = torch.zeros_like(shared.buffers[0][0]) if shared else torch.empty(0)
        self._turn = 0

    def open(self, weights: Sequence[nn.Parameter]) -> None:
        """Let the next backward pass write its gradients where the others can read them."""
        if self._shared is None:
            for weight in weights:
                weight.grad = None
            return
        # Two buffers alternate. The fastest process fills one while the slowest may still read the
        # other, and no process can be two steps ahead, because all meet at the barrier.
        self._turn ^= 1
        own = self._shared.buffers[self.rank][self._turn]
        own.zero_()
        _use_as_gradients(weights, own)

    def average(self, weights: Sequence[nn.Parameter]) -> None:
        """Wait for all, and replace the gradients by their mean: the same bits in each process."""
        if self._shared is None:
            return
        self._shared.barrier.wait()
        first, *others = (buffers[self._turn] for buffers in self._shared.buffers)
        torch.div(first, self.size, out=self._mean)
        for other in others:
            self._mean.add_(other, alpha=1 / self.size)
        _use_as_gradients(weights, self._mean)


def train_together(
    train: Callable[..., None], arguments: Sequence[object], *, processes: int, numbers: int
) -> None:
    """Call train(*arguments, team) in this process and in `processes` - 1 others.

    `numbers` is the size of a gradient. If this process ends, because it is asked to stop or by
    an error, the others end too. The others ignore a request to stop, such as one that is sent to
    a whole process group.

    Raises:
        ChildProcessError: another process ended with an error.
    """
    if processes == 1:
        train(*arguments, Team())
        return
    context = torch_multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    buffers = [[torch.zeros(numbers).share_memory_() for _ in (0, 1)] for _ in range(processes)]
    shared = Shared(buffers, barrier)
    others = [
        context.Process(target=_follow, args=(train, arguments, rank, shared))
        for rank in range(1, processes)
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with _stops_ignored():  # the processes that start here inherit this
        for other in others:
            other.start()
    threading.Thread(target=_watch, args=(others, barrier), daemon=True).start()
    try:
        train(*arguments, Team(0, shared))
    except BrokenBarrierError as error:
        codes = [other.exitcode for other in others if other.exitcode]
        raise ChildProcessError(
            f"Another process of this training ended with {codes}; its error is above."
        ) from error
    except BaseException:
        barrier.abort()  # also on a request to stop, which is an exception
        raise
    finally:
        for other in others:
            other.join()
        torch.set_num_threads(threads)


@contextmanager
def _stops_ignored() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _use_as_gradients(weights: Sequence[nn.Parameter], numbers: Tensor) -> None:
    """Use parts of a flat tensor as the gradients, each in the layout of its weight."""
    begin = 0
    for weight in weights:
        weight.grad = numbers.as_strided(weight.size(), weight.stride(), begin)
        begin += weight.numel()


def _follow(
    train: Callable[..., None],
    arguments: Sequence[object],
    rank: int,
    shared: Shared,
) -> None:
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        train(*arguments, Team(rank, shared))
    except BrokenBarrierError:
        log.info("process %d ends, because the first one ended", rank)


def _watch(others: Sequence[SpawnProcess], barrier: Barrier) -> None:
    """Abort the barrier when a process fails, so that the others do not wait for it."""
    running: dict[object, SpawnProcess] = {other.sentinel: other for other in others}
    while running:
        for sentinel in connection.wait([other.sentinel for other in running.values()]):
            ended = running.pop(sentinel)
            ended.join()
            if ended.exitcode != 0:
                barrier.abort()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)  # the parent was killed and could not stop this process
