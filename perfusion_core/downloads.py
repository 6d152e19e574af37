"""Downloads a hub's model into the hub's cache, with progress; a new call resumes an old one.

huggingface_hub keeps only whole files: a process that ends in the middle of a 4 GB file starts that
file again. Here a large file grows under one name until it is whole, and the next process asks for
the rest alone. A file whose hash the hub tells (every weight file) is checked before it is used.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

Progress = Callable[[int, int], None]
"""A function that takes the bytes that are on this machine, and the bytes of the whole model."""

# A smaller file is fetched again as a whole.
_LARGE_BYTES = 1024**2
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Unreachable(OSError):
    """The hub does not answer, or this process may not ask it (HF_HUB_OFFLINE=1)."""


def list_files(
    name: str,
    *,
    revision: str | None,
    allow_patterns: Sequence[str],
    ignore_patterns: Sequence[str],
) -> list[Any]:
    """Return huggingface_hub's DryRunFileInfo of each file of a hub's model that fits the patterns.

    Raises Unreachable, or OSError if the hub does not have the model or the revision.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError, RepositoryNotFoundError

    try:
        with _translated():
            return snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(allow_patterns),
                ignore_patterns=list(ignore_patterns),
                tqdm_class=_no_bar(),
                dry_run=True,
            )
    except DryRunError as error:
        if isinstance(error.__cause__, RepositoryNotFoundError):  # or a model of restricted access
            raise error.__cause__ from error
        raise Unreachable(f"The hub cannot be asked for {name}.") from error


def sizes(files: Sequence[Any]) -> tuple[int, int]:
    """Return the bytes of all files, and of those that are not on this machine yet."""
    total = sum(file.file_size or 0 for file in files)
    return total, sum(file.file_size or 0 for file in files if file.will_download)


def download(name: str, files: Sequence[Any], *, progress: Progress | None = None) -> Path:
    """Download those of the listed files that are missing; return their folder in the hub's cache.

    Raises OSError if the connection breaks several times in a row, or a file arrives damaged.
    """
    from huggingface_hub import snapshot_download

    if not files:
        raise OSError(f"{name} has none of the files that are needed.")
    total, missing = sizes(files)
    done = total - missing
    for file in files:
        if progress is not None:
            progress(done, total)
        if file.will_download and (file.file_size or 0) >= _LARGE_BYTES:
            with _translated():
                _download_file(name, file, report=_offset(progress, done, total))
            done += file.file_size
    # The small files, and the cache's links to the large ones.
    with _translated():
        folder = snapshot_download(
            name,
            revision=files[0].commit_hash,
            allow_patterns=[file.filename for file in files],
            tqdm_class=_no_bar(),
        )
    if progress is not None:
        progress(total, total)
    return Path(folder)


def cached_folder(name: str, *, revision: str | None, allow_patterns: Sequence[str]) -> Path:
    """Return the folder of a model that is in the hub's cache as a whole, without a connection.

    Raises OSError if files that fit the patterns are known to be missing.
    """
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(
            name, revision=revision, allow_patterns=list(allow_patterns), local_files_only=True
        )
    )


def _download_file(name: str, file: Any, *, report: Callable[[int], None]) -> None:
    """Put one large file into the place where the library looks for it before it downloads it."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get, repo_folder_name
    from huggingface_hub.utils import WeakFileLock, build_hf_headers

    url = hf_hub_url(name, file.filename, revision=file.commit_hash)
    etag = get_hf_file_metadata(url).etag
    if etag is None:
        return  # the library says what is wrong with this hub
    repository = repo_folder_name(repo_id=name, repo_type="model")
    cache = Path(constants.HF_HUB_CACHE)
    blob = cache / repository / "blobs" / etag
    part = blob.with_name(f"{etag}.part")
    lock = cache / ".locks" / repository / f"{etag}.lock"  # the library's own for this file
    for folder in (blob.parent, lock.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock):
        if blob.exists():  # another process has fetched it meanwhile
            return
        with part.open("ab") as growing:
            if growing.tell() > file.file_size:
                growing.truncate(0)
            http_get(
                url,
                growing,
                resume_size=growing.tell(),
                headers=build_hf_headers(),
                expected_size=file.file_size,
                displayed_filename=file.filename,
                tqdm_class=_counter(report),
            )
        if _SHA256.fullmatch(etag) and _sha256(part) != etag:
            part.unlink()
            raise OSError(f"{file.filename} of {name} arrived damaged: fetch it again.")
        part.replace(blob)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise OSError for a connection's errors, which the library passes on as those of httpx2."""
    from httpx2 import HTTPError

    try:
        yield
    except HTTPError as error:
        if isinstance(error, OSError):
            raise
        raise OSError(str(error)) from error


def _offset(progress: Progress | None, done: int, total: int) -> Callable[[int], None]:
    """Return a function that takes the bytes of one file and reports those of the whole model."""
    return (lambda fetched: progress(done + fetched, total)) if progress else lambda fetched: None


def _counter(report: Callable[[int], None]) -> Any:
    """Return a class that the library uses like a tqdm bar, and that only reports bytes."""

    class Counter:
        def __init__(self, *, initial: int = 0, **_: Any) -> None:
            self._done = initial

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, count: int) -> None:
            self._done += count
            report(self._done)

    return Counter


def _no_bar() -> Any:
    """Return a bar that shows nothing: each caller of this module shows progress in its own way."""
    from huggingface_hub.utils.tqdm import tqdm

    class NoBar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

    return NoBar


def _sha256(file: Path) -> str:
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
