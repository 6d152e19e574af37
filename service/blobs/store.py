"""Blobs: pictures, concept files, training states and images, by key.

A blob is written before, and removed after, the row that names the blob. A blob without a row is
harmless, because the garbage collection removes the blob. A missing blob breaks the row that names
the blob.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.errors import Unavailable

_SAFE_KEY = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*/)*[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MAX_KEY_LENGTH = 200


class BlobNotFound(Exception):
    """No blob has this key."""


class BlobExists(Exception):
    """Other bytes are stored under this key and must not be replaced."""


@dataclass(frozen=True)
class BlobInfo:
    """What a listing says about a blob."""

    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file that its owner fetches: a concept, an image or an attention map."""

    data: bytes
    sha256: str
    name: str = ""


class Blobs(Protocol):
    """A place for blobs. Every method raises Unavailable when the place cannot serve now."""

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, completely or not at all, replacing any blob there."""

    def put_new(self, key: str, data: bytes) -> None:
        """Store `data` under `key` for good; raise BlobExists if other bytes are there.

        Use `put_new` for blobs that rows name. `put_new` accepts the same bytes again, because the
        answer to an earlier try may have been lost.
        """

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`, or raise BlobNotFound."""

    def delete(self, key: str) -> None:
        """Remove `key`; accept a key that does not exist."""

    def delete_prefix(self, prefix: str) -> None:
        """Remove every key under the folder `prefix` (ends with /)."""

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Go through the blobs under the folder `prefix`, a few at a time in memory."""

    def clear_unfinished(self, *, older_than: datetime) -> int:
        """Remove the pieces that unfinished writes left behind; return the number of pieces."""

    def check(self) -> None:
        """Raise Unavailable unless blobs can be stored."""


def check_key(key: str) -> str:
    """Return `key` if it is a safe relative path, else raise ValueError (a bug, not input)."""
    if not is_safe(key):
        raise ValueError("unsafe blob key")
    return key


def is_safe(key: str) -> bool:
    """Return whether `key` is a relative path of plain names."""
    return len(key) <= _MAX_KEY_LENGTH and ".." not in key and bool(_SAFE_KEY.fullmatch(key))


def check_prefix(prefix: str) -> str:
    """Return `prefix` if it is empty or a safe folder with a final slash, else raise ValueError."""
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
