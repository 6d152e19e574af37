"""Measure what blobs in the database cost compared with a folder, per call and for other writes.

    python -m benchmarks.servers.blobs [--folder FOLDER] [--database-url URL]

FOLDER holds SQLite's file and the folder of blobs; another disk gives other figures. A URL of
PostgreSQL adds that server, and its database must be empty. The stores take turns in every round,
so that other load on the machine affects all of them alike.
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

_SIZES = {100_000: 40, 3_000_000: 12}  # bytes per blob: blobs per round
_ROUNDS = 4
_WRITERS = 2
_SMALL_WRITES = 200


def main() -> None:
    """Print one line per store and size, and one per store for a small write during large ones."""
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
        _compare_small_writes(stores)


def _migrated(url: str) -> Database:
    migrations.upgrade(url)
    return engine.connect(url)


def _compare(stores: dict[str, Blobs], *, size: int, count: int) -> None:
    data = os.urandom(size)
    puts: dict[str, list[float]] = {name: [] for name in stores}
    gets: dict[str, list[float]] = {name: [] for name in stores}
    for number in range(_ROUNDS):
        for name, store in stores.items():
            keys = [f"jobs/{size}-{number}/1/{n}.png" for n in range(count)]
            puts[name] += [_milliseconds(partial(store.put, key, data)) for key in keys]
            gets[name] += [_milliseconds(partial(store.get, key)) for key in keys]
    for name in stores:
        print(f"{size / 1e6:4.1f} MB {name:18} put {_shown(puts[name])} get {_shown(gets[name])}")


def _compare_small_writes(stores: dict[str, Blobs]) -> None:
    write = partial(stores["sql: on SQLite"].put, "jobs/small/1/0.png", b"")
    print(f"a small write on SQLite, alone           {_time_many(write)}")
    for name in ("folder", "sql: on SQLite"):
        with _putting(stores[name]):
            print(f"while {_WRITERS} threads put 3 MB, {name:14} {_time_many(write)}")


@contextmanager
def _putting(store: Blobs) -> Iterator[None]:
    """Put 3 MB from several threads without a pause, inside the block."""
    stopped = threading.Event()
    data = os.urandom(3_000_000)

    def put(writer: int) -> None:
        while not stopped.is_set():
            store.put(f"jobs/large/{writer}/0.png", data)

    threads = [threading.Thread(target=put, args=(n,)) for n in range(_WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _time_many(act: Callable[[], object]) -> str:
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
