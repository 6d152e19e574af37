"""What a caller passes into long work: how a step gets onto the device, and when to stop."""

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")

Check = Callable[[], None]
"""Called between steps; raises Interrupted where the work is to stop."""


class RunOnDevice(Protocol):
    """Runs a step on the device when it may, such as between the steps of others' images."""

    def __call__(self, act: Callable[[], T], /) -> T:
        """Return what `act` returns, raise what it raises."""


def run_at_once(act: Callable[[], T], /) -> T:
    """Run a step on a device that has no other user."""
    return act()
