"""A worker as a separate process: `perfusion worker`.

SIGTERM and SIGINT drain the worker: running trainings save their state and go back to the queue. A
second signal ends the process at once. The jobs of the ended process go back to the queue when the
jobs' leases expire.
"""

import logging
import os
import signal
from collections.abc import Sequence
from threading import Event
from types import FrameType

from service import deployment, wiring
from service.settings.environment import Settings
from service.statuses import Queue
from worker import embedded
from worker.embedded import Embedded

_POLL_SECONDS = 0.5


def run(settings: Settings, *, queues: Sequence[str], concurrency: int | None = None) -> None:
    """Run a worker until a signal arrives; `concurrency` generations may share the device.

    Trainings run one at a time. Raises SystemExit(1) if the device broke or a job hung: a
    supervisor should start a new process.
    """
    signalled = listen_for_signals()
    service = wiring.build(settings)
    deployment.check_at_start(service)
    stay(embedded.start(service, slots=_slots(queues, concurrency)), signalled)


def listen_for_signals() -> Event:
    """Return an event that the first SIGTERM or SIGINT sets; a second signal ends the process."""
    signalled = Event()

    def drain(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        signalled.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, drain)
    return signalled


def stay(worker: Embedded, signalled: Event) -> None:
    """Wait until a signal arrives or the worker's device breaks; then drain the worker."""
    broken = worker.context.broken
    while not signalled.wait(_POLL_SECONDS) and not broken.is_set():
        pass
    idle = worker.stop()
    if not idle:
        # A hanging step cannot be interrupted, and its thread would keep the process from ending.
        logging.shutdown()
        os._exit(1)
    worker.context.service.close()
    if broken.is_set():
        raise SystemExit(1)


def _slots(queues: Sequence[str], concurrency: int | None) -> dict[str, int]:
    slots = {queue: embedded.default_slots()[queue] for queue in queues}
    if concurrency is not None and Queue.GENERATE in slots:
        slots[Queue.GENERATE.value] = concurrency
    return slots
