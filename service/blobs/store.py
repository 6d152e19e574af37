"""Blobs: pictures, concept files, training states and images, by key.

Keys are paths of plain names, made by the functions at the end of this file only. A blob is
written before the row that names it and removed after it: an orphan is harmless (the collector
finds it), a missing blob is not.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.errors import Unavailable

_SAFE_KEY = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*/)*[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MAX_KEY_LENGTH = 200
# Holds the id of the store's deployment; it lies outside every folder that a release collects.
DEPLOYMENT_KEY = "deployment"


class BlobNotFound(Exception):
    """No blob has this key."""


class BlobExists(Exception):
    """Other bytes are stored under this key, and they are not to be replaced."""


@dataclass(frozen=True)
class BlobInfo:
    """What a listing says about a blob."""

    key: str
    size_bytes: int
    modified_at: datetime


class Blobs(Protocol):
    """A place for blobs. Every method raises Unavailable when the place cannot serve now."""

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, whole or not at all, replacing what was there."""

    def put_new(self, key: str, data: bytes) -> None:
        """Store `data` under `key` for good: raise BlobExists where other bytes are there.

        For what rows name. The same bytes are fine: the answer to an earlier try was lost.
        """

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`, or raise BlobNotFound."""

    def delete(self, key: str) -> None:
        """Remove `key`; a key that is not there is fine."""

    def delete_prefix(self, prefix: str) -> None:
        """Remove every key under the folder `prefix` (ends with /)."""

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Go through the blobs under the folder `prefix`, a few at a time in memory."""

    def clear_unfinished(self, *, older_than: datetime) -> int:
        """Remove what unfinished writes have left behind; return how many pieces."""

    def check(self) -> None:
        """Raise Unavailable unless blobs can be stored."""


def check_key(key: str) -> str:
    """Return `key` if it is a safe relative path; raise ValueError if not (a bug, not input)."""
    if not _is_safe(key):
        raise ValueError("unsafe blob key")
    return key


def _is_safe(key: str) -> bool:
    return len(key) <= _MAX_KEY_LENGTH and ".." not in key and bool(_SAFE_KEY.fullmatch(key))


def check_prefix(prefix: str) -> str:
    """Return `prefix` if it is empty or a safe folder that ends with a slash."""
    if prefix:
        if not prefix.endswith("/"):
            raise ValueError("a blob prefix ends with /")
        check_key(prefix.removesuffix("/"))
    return prefix


def unavailable() -> Unavailable:
    """Return the error of a blob store that cannot serve now."""
    return Unavailable(
        "blobs-unavailable",
        "The store of pictures and files cannot be reached now. Nothing was accepted; "
        "try again in a moment.",
    )


def owner_of(key: str) -> tuple[str, str] | None:
    """Return the folder and the id of the concept or job that `key` belongs to.

    None: it is no key of a concept or job.
    """
    folder, _, rest = key.partition("/")
    if folder not in ("pictures", "concepts", "jobs") or not _is_safe(key):
        return None
    return folder, rest.partition("/")[0].removesuffix(".safetensors")


def picture_key(concept_id: str, position: int) -> str:
    """Return the key of a training picture."""
    return f"{pictures_prefix(concept_id)}{position}.png"


def mask_key(concept_id: str, position: int) -> str:
    """Return the key of a training picture's mask."""
    return f"{pictures_prefix(concept_id)}{position}.mask.png"


def pictures_prefix(concept_id: str) -> str:
    """Return the folder of a concept's training pictures."""
    return f"pictures/{concept_id}/"


def imported_concept_key(concept_id: str) -> str:
    """Return the key of an imported concept's file."""
    return f"concepts/{concept_id}.safetensors"


def job_prefix(job_id: str) -> str:
    """Return the folder of everything that a job writes."""
    return f"jobs/{job_id}/"


def attempt_prefix(job_id: str, attempt: int) -> str:
    """Return the folder of one attempt's results: no other attempt writes there."""
    return f"{job_prefix(job_id)}{attempt}/"


def image_key(job_id: str, attempt: int, *, index: int) -> str:
    """Return the key of a generated image."""
    return f"{attempt_prefix(job_id, attempt)}{index}.png"


def attention_map_key(job_id: str, attempt: int, *, index: int, number: int) -> str:
    """Return the key of an attention map over image `index`."""
    return f"{attempt_prefix(job_id, attempt)}{index}.attention-{number}.png"


def state_key(job_id: str, attempt: int) -> str:
    """Return the key of the training state that an attempt saves."""
    return f"{attempt_prefix(job_id, attempt)}state.safetensors"


def previous_state_key(job_id: str) -> str:
    """Return the key of a training's state in the previous release, the same for every attempt."""
    return f"{job_prefix(job_id)}state.safetensors"


def preview_key(job_id: str, attempt: int) -> str:
    """Return the key of the preview picture that an attempt draws."""
    return f"{attempt_prefix(job_id, attempt)}preview.png"


def last_preview_key(job_id: str) -> str:
    """Return the key of a finished training's preview; the previous release has no other."""
    return f"{job_prefix(job_id)}preview.png"


def preview_keys(job_id: str, preview_attempt: int | None) -> list[str]:
    """Return where the preview lies of a training whose row names this attempt, newest first."""
    last = [last_preview_key(job_id)]
    return last if preview_attempt is None else [preview_key(job_id, preview_attempt), *last]
