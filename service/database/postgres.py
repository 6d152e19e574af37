"""PostgreSQL's special needs: a time limit for a silent server, and results in binary form.

A server process that is stopped or waits for its disk keeps its sockets open. The kernel still
acknowledges packets for that process, so neither keep-alives nor the server's own limits end the
wait.
"""

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, event

SILENCE_SECONDS = 10.0
T = TypeVar("T")


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that closes itself if an exchange takes longer than `SILENCE_SECONDS`."""

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **options: Any) -> T:
        """Exchange data with the server."""
        return super().wait(self._in_time(gen), *args, **options)

    def _in_time(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        """Pass all values through; the driver resumes this generator ten times a second."""
        give_up_at = time.monotonic() + SILENCE_SECONDS
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > give_up_at:
                    # An exchange is only half done, so the connection cannot be used again.
                    self.pgconn.finish()
                    raise psycopg.OperationalError("the server did not answer in time")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: T = end.value
            return result


def ask_for_binary(connection: Connection) -> None:
    """Ask for the results of this connection in binary form instead of as text.

    Bytes sent as text take twice the space, and reading 3 MB as text takes eight times as long.
    """
    event.listen(connection, "before_cursor_execute", _set_format)


def _set_format(_connection: Connection, cursor: Any, *_: object) -> None:
    cursor.format = psycopg.pq.Format.BINARY
