"""Every service of docker-compose.yml as a plain process.

Command line, environment, health check and grace period are those of the file. Only addresses and
folders differ: 127.0.0.1 and free ports replace the names and ports of the containers' network, and
folders of the test replace `/data` and `/tmp`. This module also does the work of the container
images' entry points: PostgreSQL's first start, and `perfusion` in front of our own commands.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.deployment import stack
from tests.integration.stack.deployment import ROOT
from tests.integration.stack.processes import Process, as_user, free_ports
from tests.integration.stack.servers import not_root as not_root
from tests.integration.stack.servers import postgres_programs as postgres_programs

HOSTS = ("postgres", "redis", "s3", "api")
PORTS = ("5432", "6379", "8333", "8000")
# A container has its own network. Here SeaweedFS needs free ports for internal use as well.
WEED_PORTS = ("master.port", "volume.port", "filer.port", "admin.port")


class PlainStack:
    """The services of one profile, not started yet. `close` kills those that still run."""

    def __init__(self, folder: Path, *, profile: str, **settings: str) -> None:
        """Read the file, with the product's `settings` in its `.env`.

        Other users must be able to enter `folder`: PostgreSQL refuses root.
        """
        self._folder = folder
        self.env_file = stack.make_env(folder)
        with self.env_file.open("a") as env:
            env.writelines(
                f"PERFUSION_{name.upper()}={value}\n" for name, value in settings.items()
            )
        self.services = stack.resolve(self.env_file, profiles=[profile])
        self._ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        self._processes: dict[str, Process] = {}
        # The programs of the container images. A missing one fails with its name.
        own = Path(sys.executable).parent
        self._path = f"{own}:{postgres_programs()}:{os.environ['PATH']}"

    @property
    def url(self) -> str:
        """The address of the API."""
        return f"http://127.0.0.1:{self._ports['8000']}"

    @property
    def key(self) -> str:
        """The first API key."""
        environment = self.services["api"]["environment"]
        return str(environment["PERFUSION_BOOTSTRAP_KEY"])

    def start(self, name: str) -> Process:
        """Start a service."""
        if name == "postgres":
            self._initialise_postgres()
        process = self._processes[name] = self._process(name)
        process.start()
        return process

    def wait_until_healthy(self, name: str, *, seconds: float = 120) -> None:
        """Wait until the service's own health check passes."""
        self._processes[name].wait_until(
            lambda: self.is_healthy(name), what="it was healthy", seconds=seconds, every=2
        )

    def wait_until_logged(self, name: str, event: str, *, seconds: float) -> None:
        """Wait for a line of a service's log; reading it costs less than a health check."""
        process = self._processes[name]
        process.wait_until(
            lambda: f'"event": "{event}"' in process.log,
            what=f"{event} was logged",
            seconds=seconds,
        )

    def is_healthy(self, name: str) -> bool:
        """Run the service's health check once."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        words = [self._local(name, word) for word in words]
        command = words if kind == "CMD" else ["sh", "-c", *words]
        try:
            subprocess.run(
                command,
                env=self._environment(name),
                cwd=ROOT,
                capture_output=True,
                timeout=_seconds(self.services[name]["healthcheck"]["timeout"]),
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return False
        return True

    def stop(self, name: str) -> int:
        """Stop a service as Compose does, within its grace period; return the exit code."""
        # Compose's default, if the file names no period.
        grace = self.services[name].get("stop_grace_period", "10s")
        # The image of PostgreSQL sets SIGINT as its stop signal, which also ends all sessions.
        number = signal.SIGINT if name == "postgres" else signal.SIGTERM
        return self._processes.pop(name).terminate(seconds=_seconds(grace), number=number)

    def close(self) -> None:
        """Kill the services that still run."""
        for process in self._processes.values():
            process.kill()

    def _process(self, name: str) -> Process:
        service = self.services[name]
        words = [*(service["entrypoint"] or self._entry_point(name)), *service["command"]]
        command = [self._local(name, word) for word in words]
        user = None
        if name == "postgres":
            user = not_root()
            command += ["-p", self._ports["5432"], "-D", str(self._data(name) / "pgdata")]
            command += ["-k", str(self._data(name)), "-c", "listen_addresses=127.0.0.1"]
        if name == "s3":
            names = [*WEED_PORTS, *(f"{port}.grpc" for port in (*WEED_PORTS, "s3.port"))]
            ports = zip(names, free_ports(len(names)), strict=True)
            command += [f"-{port}={number}" for port, number in ports]
        return Process(
            [shutil.which(command[0], path=self._path) or command[0], *command[1:]],
            log=self._folder / f"{name}.log",
            environment=self._environment(name),
            user=user,
            folder=self._data(name) if user else ROOT,
        )

    def _entry_point(self, name: str) -> list[str]:
        if not self.services[name].get("build"):
            return []
        text = (ROOT / "docker" / "Dockerfile").read_text()
        (word,) = re.findall(r'^ENTRYPOINT \["(\w+)"\]$', text, re.MULTILINE)
        return [word]

    def _environment(self, name: str) -> dict[str, str]:
        given: Mapping[str, str | None] = self.services[name].get("environment") or {}
        values = {k: self._local(name, v) for k, v in given.items() if v is not None}
        # The variables of the image, and one thread, because several on busy cores only wait.
        machine = {
            "PATH": self._path,
            "HOME": str(self._temporary(name)),
            "PERFUSION_DATA_DIR": str(self._data(name)),
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1",
        }
        return machine | values

    def _local(self, name: str, word: str) -> str:
        """Return a word of the file with this machine's addresses and folders."""
        word = word.replace("$$", "$").replace("0.0.0.0", "127.0.0.1")
        word = word.replace("/tmp", str(self._temporary(name)))
        word = word.replace("=/data", f"={self._data(name)}").replace("/usr/bin/weed", "weed")
        word = re.sub(rf"(@|//)({'|'.join(HOSTS)}):", r"\g<1>127.0.0.1:", word)
        return re.sub(rf"\b({'|'.join(PORTS)})\b", lambda port: self._ports[port[1]], word)

    def _data(self, name: str) -> Path:
        return self._made(name, "data")

    def _temporary(self, name: str) -> Path:
        return self._made(name, "tmp")

    def _made(self, name: str, kind: str) -> Path:
        folder = self._folder / f"{name}-{kind}"
        folder.mkdir(exist_ok=True)
        return folder

    def _initialise_postgres(self) -> None:
        """Initialise an empty volume, as the image's entry point does."""
        environment = self._environment("postgres")
        data, user = self._data("postgres"), not_root()
        password = data / "password"
        password.write_text(environment["POSTGRES_PASSWORD"])
        if user is not None:
            shutil.chown(data, user)
            shutil.chown(password, user)
        given = environment["POSTGRES_INITDB_ARGS"].split()
        single = data / "pgdata"
        superuser = environment["POSTGRES_USER"]
        subprocess.run(
            [
                *(postgres_programs() / "initdb", "-D", single, "-U", superuser, *given),
                *("--auth=scram-sha-256", f"--pwfile={password}", "--no-sync"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=data,
            **as_user(user),
        )
        subprocess.run(
            [postgres_programs() / "postgres", "--single", "-D", single, "postgres"],
            input=f"CREATE DATABASE {environment['POSTGRES_DB']};".encode(),
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=data,
            **as_user(user),
        )


def _seconds(duration: str) -> int:
    """Return the seconds of a duration in Compose's notation, such as 1m30s."""
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", duration)
    assert found is not None, duration
    return 60 * int(found[1] or 0) + int(found[2] or 0)
