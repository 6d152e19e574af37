"""A store that is full while a flag file exists. Its blobs can still be read and deleted."""

import os
from pathlib import Path
from typing import Any

from service import wiring
from service.blobs.store import Blobs, unavailable
from service.database.engine import Database
from service.settings.environment import Settings

FLAG = "CHAOS_DISK_IS_FULL"


class MayBeFull:
    """Forward all calls to a real store, except writes to a full disk."""

    def __init__(self, blobs: Blobs, flag: Path) -> None:
        self._blobs = blobs
        self._flag = flag

    def __getattr__(self, name: str) -> Any:
        if name in ("put", "put_new") and self._flag.exists():
            raise unavailable()
        return getattr(self._blobs, name)


def install() -> None:
    """Let every service of this process use such a store."""
    connect = wiring._connect_blobs
    flag = Path(os.environ[FLAG])

    def connect_with_limit(settings: Settings, database: Database) -> Blobs:
        blobs: Any = MayBeFull(connect(settings, database), flag)
        return blobs  # type: ignore[no-any-return]

    wiring._connect_blobs = connect_with_limit
