"""Processes that tests start, freeze and kill. They end with the test, even if it is killed."""

import ctypes
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Process:
    """A program whose output goes to a file. It can be started again after its end."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        folder: Path | None = None,
    ) -> None:
        self.command = [str(word) for word in command]
        self.log_file = log
        self._environment = None if environment is None else dict(environment)
        self._user = user
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """The output of all its starts."""
        return self.log_file.read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the program. It is killed when this process dies."""
        assert not self.alive
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self._folder,
                preexec_fn=_die_with_parent,
                **as_user(self._user),
            )

    def freeze(self) -> None:
        """Suspend the program: its sockets stay open, but it does not answer."""
        for pid in [self.pid, *_descendants(self.pid)]:
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen program continue."""
        for pid in [*_descendants(self.pid), self.pid]:
            _signal(pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the program by kill -9, and wait for its end."""
        if self._process is not None:
            for pid in [self.pid, *_descendants(self.pid)] if self.alive else []:
                _signal(pid, signal.SIGKILL)
            self._process.wait()

    def terminate(self, *, seconds: float = 60, number: int = signal.SIGTERM) -> int:
        """Ask the program to stop, and return its exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(seconds)

    def wait(self, *, seconds: float) -> int:
        """Wait until the program ends by itself, and return its exit code."""
        assert self._process is not None
        return self._process.wait(seconds)

    def wait_until(
        self, true: Callable[[], bool], *, what: str, seconds: float = 60, every: float = 0.2
    ) -> None:
        """Wait until `true` returns True. Fail at once if the process dies."""
        give_up_at = time.monotonic() + seconds
        while not true():
            name = Path(self.command[0]).name
            assert self.alive, f"{name} died before {what}:\n{self.log[-4000:]}"
            assert time.monotonic() < give_up_at, (
                f"{name}: {what} took too long:\n{self.log[-4000:]}"
            )
            time.sleep(every)


def find_program(name: str, *, advice: str, folders: Sequence[Path] = ()) -> Path:
    """Return the program's path. A missing one is an error, as a skip would prove nothing."""
    places = [*map(str, folders), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise RuntimeError(f"{name} is missing, and these tests need the real one. {advice}")
    return Path(found)


def as_user(name: str | None) -> dict[str, Any]:
    """Return the options of subprocess that start a program as another user, if one is named."""
    if name is None:
        return {}
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free now.

    They are below the range that Linux gives to clients, because an outgoing connection could take
    a port of that range before the server binds it.
    """
    found: list[int] = []
    for port in random.sample(range(10_000, 32_768), 1_000):
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


def answers(port: int) -> bool:
    """Return whether a server accepts connections on this port of 127.0.0.1."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    """Return all descendants of a process. PostgreSQL has one per connection, to freeze as well."""
    if sys.platform != "linux":
        return []
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            found += [child, *_descendants(child)]
    return found


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
