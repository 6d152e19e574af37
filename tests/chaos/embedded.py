"""Run `perfusion serve` without any setting, with a worker whose jobs only sleep."""

import os
import subprocess

from api.__main__ import main
from service.wiring import Service
from tests.chaos import worker
from worker import embedded
from worker.embedded import Embedded


def start(service: Service) -> Embedded:
    """Start the chaos worker in place of the embedded one, which would load a base model."""
    started = worker.build(service)
    started.start()
    return started


def _log_through_a_pipe() -> None:
    """Log to a pipe, as under a supervisor, because a full disk must not stop the log."""
    pipe = subprocess.Popen(["cat"], stdin=subprocess.PIPE).stdin
    assert pipe is not None
    for descriptor in (1, 2):
        os.dup2(pipe.fileno(), descriptor)


if __name__ == "__main__":
    _log_through_a_pipe()
    embedded.start = start  # type: ignore[assignment]
    main()
