"""The thread that deletes expired rows and orphaned blobs once an hour, which may take minutes.

The collection thread survives every exception. The thread logs a failed pass, and the next pass
starts from the beginning.
"""

from threading import Event, Thread

import structlog

from service import deployment
from service.errors import Unavailable
from service.garbage import collection, retention
from service.wiring import Service

_FIRST_AFTER_SECONDS = 60.0
_EVERY_SECONDS = 3600.0
_STOP_SECONDS = 10.0
_log = structlog.get_logger("perfusion.worker")


class Collection:
    """A thread that periodically deletes expired rows, and blobs that no row references."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stopped = Event()
        self._thread = Thread(target=self._run, name="collection", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the collection thread, even in the middle of a pass."""
        self._stopped.set()
        if self._thread.is_alive():
            # The wait is limited, because a hanging blob store must not keep the process from
            # ending. The thread is a daemon.
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        pause = _FIRST_AFTER_SECONDS
        while not self._stopped.wait(pause):
            self._pass()
            pause = _EVERY_SECONDS

    def _pass(self) -> None:
        stopping = self._stopped.is_set
        try:
            images, jobs = retention.release(self._service, stopping=stopping)
            if images or jobs:
                _log.info("retention.released", images=images, jobs=jobs)
            removed = collection.collect(self._service, stopping=stopping)
            if removed:
                _log.info("blobs.collected", removed=removed)
        except Unavailable as error:
            _log.warning("collection.fault", problem=error.slug)
        except deployment.Mismatch as error:
            _log.error("deployment.mismatch", reason=str(error))
        except Exception:
            _log.exception("collection.failed")
