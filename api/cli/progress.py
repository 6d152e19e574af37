"""Progress on stderr, so that stdout contains only results; and a Ctrl+C that keeps a result."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from service.statuses import LoadingState

# Between two lines of a log.
_QUIET_SECONDS = 10.0
_STEP_SECONDS = 5.0


@contextmanager
def progress_bar(text: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; yield a function that takes the number of steps done.

    If stderr is a log or a pipe instead of a terminal, print a line of text every few seconds.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _StepLines(console, text, total=total).tell
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def loading_bar() -> Iterator[Callable[["LoadingState"], None]]:
    """Show how far models are fetched and loaded; yield a function that takes each new state.

    In a log or a pipe, print a line for each new phase, and now and then within a phase.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(console).tell
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=None)

        def tell(state: "LoadingState") -> None:
            total = None if state.progress is None else 1.0
            progress.update(
                task, description=state.detail, total=total, completed=state.progress or 0.0
            )

        yield tell


@contextmanager
def first_interrupt(finish: Callable[[], bool]) -> Iterator[None]:
    """Call `finish` at the first Ctrl+C inside the block; the next one aborts as usual.

    `finish` only notes the wish, because it may run between any two instructions. If it returns
    False, there is nothing to keep, and the first Ctrl+C aborts, too.
    """
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        if not finish():
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class _StepLines:
    """Prints the steps done as lines, so that long work does not look like a hang."""

    def __init__(self, console: Console, text: str, *, total: int | None) -> None:
        self._console = console
        self._text = text
        self._of_total = "" if total is None else f" of {total}"
        self._began = time.monotonic()
        self._quiet_until = self._began + _STEP_SECONDS
        console.print(text, markup=False, highlight=False)

    def tell(self, done: int) -> None:
        now = time.monotonic()
        if now < self._quiet_until:
            return
        self._quiet_until = now + _STEP_SECONDS
        self._console.print(
            f"{self._text}: {done}{self._of_total} after {now - self._began:.0f} s",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


class _Lines:
    """Prints the states of loading as lines, not more often than a reader of a log needs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase: str | None = None
        self._quiet_until = 0.0

    def tell(self, state: "LoadingState") -> None:
        if state.phase.value == self._phase and time.monotonic() < self._quiet_until:
            return
        self._console.print(state.detail, markup=False, highlight=False, soft_wrap=True)
        self._phase = state.phase.value
        self._quiet_until = time.monotonic() + _QUIET_SECONDS


def shown_size(size_bytes: int) -> str:
    """Return a size in the unit that suits it: `4.3 GB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= size:
            return f"{size_bytes / size:.1f} {unit}"
    return f"{size_bytes / 1e3:.0f} kB"
