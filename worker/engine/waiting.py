"""Waits for the device in short intervals; a job can be stopped between two intervals."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, Protocol

_POLL_SECONDS = 0.1

WhileWaiting = Callable[[bool], None]
"""A function called now and then while work is not finished. Its argument says whether the device
is running the work. The function may raise to stop waiting."""


class Work(Protocol):
    """Work for the device that can be waited for: a request or a device call."""

    on_device: bool
    future: "Future[Any]"


def wait_for(work: Work, while_waiting: WhileWaiting) -> None:
    """Wait until `work` is done; an error of `while_waiting` ends the wait."""
    while not wait([work.future], _POLL_SECONDS).done:
        while_waiting(work.on_device)
