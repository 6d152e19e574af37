"""Lets one process of a machine estimate the covariance of a base model, and the others read it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from perfusion_core.covariance.estimate import Covariance


def once(file: Path, estimate: Callable[[], Covariance]) -> Covariance:
    """Return the covariance of the file; estimate and save it if no other process has done so."""
    with alone(file):
        if not file.is_file():
            estimate().save(file)
    return Covariance.load(file)


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Wait until no other process is in a block for the same covariance file.

    Two workers of one machine load the same model at once, and an estimate takes minutes.
    """
    from huggingface_hub.utils._fixes import WeakFileLock

    file.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(file.with_name(f"{file.name}.lock")):
        yield
