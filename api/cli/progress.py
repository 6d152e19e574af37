"""Progress bars on stderr, so that stdout contains only results."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)


@contextmanager
def progress_bar(text: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; yield a function that takes the number of steps done.

    If stderr is a log or a pipe instead of a terminal, print one line of text instead of the bar.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(text, markup=False, highlight=False)
        yield lambda done: None
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
