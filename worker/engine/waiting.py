"""How a job waits for the device: in short spells, and between them it can be told to stop."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, Protocol

_POLL_SECONDS = 0.1

WhileWaiting = Callable[[bool], None]
"""Called now and then with whether the device works at what is waited for; it may raise."""


class Work(Protocol):
    """What the device works at, or will: a request, or a device call."""

    on_device: bool
    future: "Future[Any]"


def wait_for(work: Work, while_waiting: WhileWaiting) -> None:
    """Wait until `work` is done; what `while_waiting` raises ends the wait before."""
    while not wait([work.future], _POLL_SECONDS).done:
        while_waiting(work.on_device)
