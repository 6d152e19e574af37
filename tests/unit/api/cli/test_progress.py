"""Progress without a terminal, and what Ctrl+C keeps."""

import os
import signal
from collections.abc import Iterator

import pytest

from api.cli import progress


def test_long_work_is_not_silent_in_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.progress_bar("Teaching <rex>", total=80) as advance:
        for step in range(1, 14):
            now += 1.0
            advance(step)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "Teaching <rex>",
        "Teaching <rex>: 5 of 80 after 5 s",
        "Teaching <rex>: 10 of 80 after 10 s",
    ]


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Handle Ctrl+C as in a terminal, also if this process was started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_the_first_interrupt_finishes_and_the_second_aborts() -> None:
    finished = []

    def finish() -> bool:
        finished.append(1)
        return True

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), progress.first_interrupt(finish):
        os.kill(os.getpid(), signal.SIGINT)
        assert finished == [1]
        os.kill(os.getpid(), signal.SIGINT)
    assert finished == [1]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_with_nothing_to_keep_aborts() -> None:
    with pytest.raises(KeyboardInterrupt), progress.first_interrupt(lambda: False):
        os.kill(os.getpid(), signal.SIGINT)
