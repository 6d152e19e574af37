"""Checkpoints: written beside their place and moved into it, so that a kill leaves a whole one."""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger("maker")


class Checkpoints:
    """The one checkpoint file of a stage, and when to write it next.

    A request to stop (SIGTERM, SIGINT) makes one due at once and ends the process after it.
    """

    def __init__(self, path: Path, every_seconds: float) -> None:
        self._path = path
        self._every_seconds = every_seconds
        self._last = time.monotonic()
        self._stopping = False
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)

    def load(self) -> dict[str, Any] | None:
        """The last whole checkpoint, if there is one."""
        if not self._path.exists():
            return None
        state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
        log.info("%s: resumed at %s samples", self._path.stem, state["seen"])
        return state

    def due(self) -> bool:
        """Whether enough time has passed since the last write."""
        return self._stopping or time.monotonic() - self._last > self._every_seconds

    def save(self, state: dict[str, Any]) -> None:
        """Write all or nothing."""
        part = self._path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._path)
        self._last = time.monotonic()
        if self._stopping:
            log.info("%s: stopped at %s samples", self._path.stem, state["seen"])
            raise SystemExit(0)

    def _stop(self, *_: object) -> None:
        self._stopping = True
