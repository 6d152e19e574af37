"""The composition root: build the Service from the settings. Nothing here is global."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore

from service import queue as notifier
from service.blobs import local, s3, sql
from service.blobs.store import Blobs
from service.database import engine
from service.database.engine import Clock, Database
from service.queue import JobNotifier
from service.settings.environment import Settings

# Each decoder may take a few hundred megabytes, and more decoders would not be faster. On a small
# machine, one decoder leaves a core for other requests.
_DECODERS = max(1, min(2, (os.cpu_count() or 1) // 2))
_THUMBNAIL_DECODERS = 1
# Pictures to edit are decoded at full size, which may take more than a gigabyte.
_EDIT_DECODERS = 1
# Requests that wait for the name servers of webhooks, each for two seconds at most.
_LOOKUPS = 4


@dataclass
class KnownSizes:
    """The bytes that owners had stored a moment ago, as this process knows; see quota.py."""

    clock: Callable[[], float] = time.monotonic
    known: dict[str, tuple[float, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Service:
    """The dependencies of every use case, passed as its first argument."""

    settings: Settings
    database: Database
    blobs: Blobs
    notifier: JobNotifier
    decoders: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(_DECODERS))
    sizes: KnownSizes = field(default_factory=KnownSizes)
    # Sentences for the operator, by subject; /readyz shows them.
    notices: dict[str, str] = field(default_factory=dict)
    thumbnail_decoders: BoundedSemaphore = field(
        default_factory=lambda: BoundedSemaphore(_THUMBNAIL_DECODERS)
    )
    edit_decoders: BoundedSemaphore = field(
        default_factory=lambda: BoundedSemaphore(_EDIT_DECODERS)
    )
    lookups: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(_LOOKUPS))

    def close(self) -> None:
        """Close connections to the database and the queue."""
        self.notifier.close()
        self.database.close()


def build(settings: Settings, *, clock: Clock | None = None) -> Service:
    """Return the service for `settings`; `clock` is for tests."""
    database = engine.connect(
        settings.database_url, clock=clock, pool_size=settings.database_pool_size
    )
    return Service(
        settings=settings,
        database=database,
        blobs=_connect_blobs(settings, database),
        notifier=notifier.CeleryNotifier(settings.queue_url),
    )


def _connect_blobs(settings: Settings, database: Database) -> Blobs:
    if settings.blobs_url == "sql:":
        return sql.SqlBlobs(database)
    if settings.blobs_url.startswith("s3://"):
        return s3.connect(
            settings.blobs_url, endpoint_url=settings.s3_endpoint_url, region=settings.s3_region
        )
    return local.LocalBlobs(Path(settings.blobs_url.removeprefix("file:")))
