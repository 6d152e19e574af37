"""Blobs in a local folder. Each write is complete or absent: a temporary file, fsync, rename."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from service.blobs.store import (
    BlobExists,
    BlobInfo,
    BlobNotFound,
    check_key,
    check_prefix,
    unavailable,
)

_TEMPORARY = ".part-"
# Tries to make a folder that other processes keep removing because it is still empty.
_TRIES = 10


class LocalBlobs:
    """Blobs as files under `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, key: str, data: bytes) -> None:
        """Store `data` under `key`, durably, before returning."""
        target = self._path(key)
        temporary = target.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
        with _translated():
            try:
                with _open_new(temporary) as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)

    def put_new(self, key: str, data: bytes) -> None:
        """Store `data` under `key`; keep other bytes already there and raise BlobExists."""
        try:
            if self.get(key) != data:
                raise BlobExists(key)
        except BlobNotFound:
            # Reading and writing are two steps. That is safe: only one claim writes to a folder.
            self.put(key, data)

    def get(self, key: str) -> bytes:
        """Return the bytes under `key`, or raise BlobNotFound."""
        path = self._path(key)
        with _translated():
            try:
                return path.read_bytes()
            except FileNotFoundError:
                raise BlobNotFound(key) from None

    def delete(self, key: str) -> None:
        """Remove `key`, and also its folder if the folder is now empty."""
        path = self._path(key)
        with _translated():
            path.unlink(missing_ok=True)
            self._remove_empty(path.parent)

    def delete_prefix(self, prefix: str) -> None:
        """Remove every key under the folder `prefix`."""
        if not prefix:
            raise ValueError("refusing to delete every blob")
        folder = self._folder / check_prefix(prefix)
        with _translated():
            if folder.is_dir():
                # A worker may be writing there now; the garbage collection removes what remains.
                shutil.rmtree(folder, ignore_errors=True)
            self._remove_empty(folder.parent)

    def list(self, prefix: str = "") -> Iterator[BlobInfo]:
        """Go through the blobs under the folder `prefix`, in no particular order."""
        with _translated():
            for file in _files_under(self._folder / check_prefix(prefix)):
                if file.name.startswith(_TEMPORARY):
                    continue
                key = Path(file.path).relative_to(self._folder).as_posix()
                status = _status_of(file)
                if status is not None:
                    modified_at = datetime.fromtimestamp(status.st_mtime, UTC)
                    yield BlobInfo(key, status.st_size, modified_at)

    def clear_unfinished(self, *, older_than: datetime) -> int:
        """Remove temporary files that a process left behind when it was killed."""
        removed = 0
        with _translated():
            for file in _files_under(self._folder):
                if not file.name.startswith(_TEMPORARY):
                    continue
                status = _status_of(file)
                if status is not None and status.st_mtime < older_than.timestamp():
                    path = Path(file.path)
                    path.unlink(missing_ok=True)
                    self._remove_empty(path.parent)
                    removed += 1
        return removed

    def check(self) -> None:
        """Raise Unavailable unless the folder is writable."""
        with _translated():
            self._folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self._folder, os.W_OK | os.X_OK):
                raise unavailable()

    def _path(self, key: str) -> Path:
        return self._folder / check_key(key)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._folder and self._folder in folder.parents:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent


def _files_under(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Go through the files under `folder`.

    Skip files that others delete meanwhile, and folders that are not readable (lost+found).
    """
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, PermissionError):
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files_under(Path(entry.path))
            else:
                yield entry


def _status_of(file: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return file.stat()
    except FileNotFoundError:
        return None


def _open_new(file: Path) -> BinaryIO:
    """Open a new file to write; make the file's folder if the folder is missing."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            _make_folder(file.parent)
            return file.open("wb")
    raise FileNotFoundError(file)


def _make_folder(folder: Path) -> None:
    """Make `folder` and its missing parents, and write each new folder through to the disk."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    # Without this, a power cut may lose names that were just made or changed in the folder.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unavailable() from error
