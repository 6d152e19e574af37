"""Finds the files of a pretrained model, in a folder or on a hub.

A hub's model may change while its name stays the same. `name@revision` pins the model. A commit
pins the model for good; a branch or a tag pins the model only until the model's owner moves the
branch or tag. Weights are safetensors. A model that has only `pytorch_model.bin` is read by torch's
weights-only reader, which refuses a pickle that contains anything but tensors.
"""

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from perfusion_core.downloads import (
    Progress,
    Unreachable,
    cached_folder,
    download,
    list_files,
    sizes,
)
from perfusion_core.errors import BaseModelError

_SAFETENSORS = "model*.safetensors"
_BIN = "pytorch_model*.bin"
_TEXT = ("*.json", "*.txt")


def split_revision(name_or_path: str | Path) -> tuple[str, str | None]:
    """Return the model's name and its pinned revision, or None; a folder has no revision."""
    text = str(name_or_path)
    name, at, revision = text.rpartition("@")
    if not at or Path(text).is_dir():
        return text, None
    if not (name and revision):
        raise BaseModelError(f"{text!r} pins no revision: write NAME@REVISION, such as a commit.")
    return name, revision


def find_folder(name_or_path: str | Path, *, role: str, progress: Progress | None = None) -> Path:
    """Return the folder of a transformers model; download what is missing of a hub's model first.

    Only configuration and weight files are downloaded: safetensors if the model has them, else
    `pytorch_model.bin`. Without a connection the model is taken from the hub's cache. `progress` is
    called with bytes done and in all. Raises BaseModelError if the files are missing. The message
    names the model's purpose, `role`, such as "evaluator".
    """
    folder = Path(name_or_path)
    if not folder.is_dir():
        name, revision = split_revision(name_or_path)
        try:
            folder = _fetch(name, revision, progress=progress)
        except (OSError, ValueError) as error:
            raise BaseModelError(
                f"The {role} {str(name_or_path)!r} cannot be fetched: name a folder, or a hub's "
                "model that this machine can download, as NAME or NAME@REVISION; `none` does "
                "without."
            ) from error
    if not has_safetensors(folder) and not any(folder.glob(_BIN)):
        raise BaseModelError(
            f"The {role} {str(name_or_path)!r} has neither model.safetensors nor "
            "pytorch_model.bin: name a model, or a revision of it, that has one of them."
        )
    refuse_adapters(folder)
    return folder


def has_safetensors(folder: Path) -> bool:
    """Return whether a model's weights are safetensors; otherwise they are a weights-only .bin."""
    return any(folder.glob(_SAFETENSORS))


def sizes_of(name_or_path: str | Path, *, role: str) -> tuple[int, int]:
    """Return the bytes that `find_folder` needs of a model, and those not on this machine yet.

    Raises BaseModelError if a hub's model is not on this machine and cannot be asked for.
    """
    folder = Path(name_or_path)
    if not folder.is_dir():
        try:
            return sizes(_wanted(*split_revision(name_or_path)))
        except (OSError, ValueError):
            folder = find_folder(name_or_path, role=role)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()), 0


def _fetch(name: str, revision: str | None, *, progress: Progress | None) -> Path:
    try:
        files = _wanted(name, revision)
    except Unreachable:
        return cached_folder(name, revision=revision, allow_patterns=[*_TEXT, _SAFETENSORS])
    return download(name, files, progress=progress)


def _wanted(name: str, revision: str | None) -> list[Any]:
    """List a model's texts, and its weights in one form."""
    files = list_files(
        name,
        revision=revision,
        allow_patterns=[*_TEXT, _SAFETENSORS, _BIN],
        ignore_patterns=["adapter_*"],
    )
    if any(fnmatch(file.filename, _SAFETENSORS) for file in files):
        return [file for file in files if not fnmatch(file.filename, _BIN)]
    return files


def refuse_adapters(folder: Path) -> None:
    """Raise BaseModelError if the model comes with an adapter, whose weights may be a pickle."""
    found = next(folder.rglob("adapter_*"), None)
    if found is not None:
        raise BaseModelError(
            f"{str(found)!r} belongs to an adapter, which is not loaded: merge it into the model "
            "and save that, or remove the adapter's files."
        )
