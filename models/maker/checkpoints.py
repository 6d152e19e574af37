"""Checkpoints, written to a temporary file and renamed, so that a kill leaves a whole one."""

from __future__ import annotations

import logging
import signal
import time
from pathlib import Path
from typing import Any

import torch

log = logging.getLogger("maker")


class Checkpoints:
    """Keep the one checkpoint file of a stage, and decide when to write it next.

    On SIGTERM or SIGINT a checkpoint is due at once, and the process ends after writing it.
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
        """Return the last checkpoint, or None if there is none."""
        if not self._path.exists():
            return None
        state: dict[str, Any] = torch.load(self._path, map_location="cpu", weights_only=True)
        log.info("%s: resumed at %s samples", self._path.stem, state["seen"])
        return state

    def due(self) -> bool:
        """Return whether enough time has passed since the last write, or the process shall stop."""
        return self._stopping or time.monotonic() - self._last > self._every_seconds

    def save(self, state: dict[str, Any]) -> None:
        """Write the whole state or nothing. End the process if it was asked to stop."""
        part = self._path.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._path)
        self._last = time.monotonic()
        if self._stopping:
            log.info("%s: stopped at %s samples", self._path.stem, state["seen"])
            raise SystemExit(0)

    def _stop(self, *_: object) -> None:
        self._stopping = True
