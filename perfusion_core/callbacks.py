"""Callbacks that a caller passes into long work: to run steps on the device, or to stop."""

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")

Check = Callable[[], None]
"""A function called between steps; it raises Interrupted if the work must stop."""


class RunOnDevice(Protocol):
    """A function that runs a step on the device once the device is free for the step."""

    def __call__(self, act: Callable[[], T], /) -> T:
        """Return what `act` returns, or raise what `act` raises."""


def run_at_once(act: Callable[[], T], /) -> T:
    """Run a step immediately, on a device that has no other user."""
    return act()
