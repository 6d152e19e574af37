"""What blobs in the database cost compared with a folder: each call, and other writes meanwhile.

    python -m benchmarks.servers.blobs [--folder FOLDER] [--database-url URL]

FOLDER is where SQLite's file and the folder of blobs are made: another disk gives other figures.
A URL of PostgreSQL adds that server; its database must be an empty one. The stores take turns in
every round, so that a busy machine is busy for all of them.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import migrations
from service.blobs.local import LocalBlobs
from service.blobs.sql import SqlBlobs
from service.blobs.store import Blobs
from service.database import engine
from service.database.engine import Database

_SIZES = {100_000: 40, 3_000_000: 12}  # bytes, and how many blobs in a round
_ROUNDS = 4
_WRITERS = 2
_SMALL_WRITES = 200


def main() -> None:
    """Print one line for each store and size, and one for a small write during large ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--database-url")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        sqlite = _migrated(f"sqlite:///{folder}/perfusion.db")
        stores: dict[str, Blobs] = {
            "folder": LocalBlobs(folder / "blobs"),
            "sql: on SQLite": SqlBlobs(sqlite),
        }
        if arguments.database_url:
            stores["sql: on PostgreSQL"] = SqlBlobs(_migrated(arguments.database_url))
        for size, count in _SIZES.items():
            _compare(stores, size=size, count=count)
        _write_beside(stores)


def _migrated(url: str) -> Database:
    migrations.upgrade(url)
    return engine.connect(url)


def _compare(stores: dict[str, Blobs], *, size: int, count: int) -> None:
    data = os.urandom(size)
    puts: dict[str, list[float]] = {name: [] for name in stores}
    gets: dict[str, list[float]] = {name: [] for name in stores}
    for turn in range(_ROUNDS):
        for name, store in stores.items():
            keys = [f"jobs/{size}-{turn}/1/{n}.png" for n in range(count)]
            puts[name] += [_milliseconds(partial(store.put, key, data)) for key in keys]
            gets[name] += [_milliseconds(partial(store.get, key)) for key in keys]
    for name in stores:
        print(f"{size / 1e6:4.1f} MB {name:18} put {_shown(puts[name])} get {_shown(gets[name])}")


def _write_beside(stores: dict[str, Blobs]) -> None:
    write = partial(stores["sql: on SQLite"].put, "jobs/small/1/0.png", b"")
    print(f"a small write on SQLite, alone          {_many(write)}")
    for name in ("folder", "sql: on SQLite"):
        with _putting(stores[name]):
            print(f"beside {_WRITERS} that put 3 MB, {name:15} {_many(write)}")


@contextmanager
def _putting(store: Blobs) -> Iterator[None]:
    """Put 3 MB again and again, from several threads, without a pause."""
    stopped = threading.Event()
    data = os.urandom(3_000_000)

    def put(writer: int) -> None:
        while not stopped.is_set():
            store.put(f"jobs/beside/{writer}/0.png", data)

    threads = [threading.Thread(target=put, args=(n,)) for n in range(_WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _many(act: Callable[[], object]) -> str:
    return _shown([_milliseconds(act) for _ in range(_SMALL_WRITES)])


def _milliseconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return 1000 * (time.perf_counter() - began)


def _shown(milliseconds: list[float]) -> str:
    worst = statistics.quantiles(milliseconds, n=100)[98]
    return f"p50 {statistics.median(milliseconds):6.1f} p99 {worst:6.1f} ms"


if __name__ == "__main__":
    main()
