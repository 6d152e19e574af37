"""Processes that train one model: each on samples of its own, with averaged gradients.

Processes of one thread each beat one process of several threads, whose every parallel region
waits for the slowest thread: 49 samples a second against 45 on two idle cores, three times as
many beside other work. Gradients pass through shared memory, with one meeting a step.
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
    """What the processes have in common."""

    buffers: Sequence[Sequence[Tensor]]  # of each process two, for all numbers of a gradient
    barrier: Barrier


class Team:
    """One process's view of all that train together; alone, averaging changes nothing."""

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
        # Two buffers by turns: the slowest may still read the one while the quickest fills the
        # other, and no one can be two meetings ahead.
        self._turn ^= 1
        own = self._shared.buffers[self.rank][self._turn]
        own.zero_()
        _hang(weights, own)

    def average(self, weights: Sequence[nn.Parameter]) -> None:
        """Wait for all and replace the gradients by their mean, the same bits in each process."""
        if self._shared is None:
            return
        self._shared.barrier.wait()
        first, *others = (buffers[self._turn] for buffers in self._shared.buffers)
        torch.div(first, self.size, out=self._mean)
        for other in others:
            self._mean.add_(other, alpha=1 / self.size)
        _hang(weights, self._mean)


def train_together(
    train: Callable[..., None], arguments: Sequence[object], *, processes: int, numbers: int
) -> None:
    """Call train(*arguments, team) here and in `processes` - 1 others; `numbers` of a gradient.

    Where this process ends, by a request to stop or by an error, the others end too. A request to
    stop that reaches the others, as one to a whole group of processes does, changes nothing.

    Raises:
        ChildProcessError: one of the others ended with an error.
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
    with _stops_ignored():  # and so in the processes that start meanwhile
        for other in others:
            other.start()
    threading.Thread(target=_watch, args=(others, barrier), daemon=True).start()
    try:
        train(*arguments, Team(0, shared))
    except BrokenBarrierError as error:
        codes = [other.exitcode for other in others if other.exitcode]
        raise ChildProcessError(
            f"A process that trained along ended with {codes}; its error is above."
        ) from error
    except BaseException:
        barrier.abort()  # a request to stop is an exception, too
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


def _hang(weights: Sequence[nn.Parameter], numbers: Tensor) -> None:
    """Make parts of a flat tensor the weights' gradients, in each weight's own layout."""
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
        log.info("process %d ends with the first", rank)


def _watch(others: Sequence[SpawnProcess], barrier: Barrier) -> None:
    """Let no one wait for a process that has failed."""
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
    os._exit(1)  # killed without a chance to say so
