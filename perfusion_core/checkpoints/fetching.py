"""Fetches a base model's files from a hub: what the pipeline is read from, and nothing else."""

from pathlib import Path
from typing import Any

from perfusion_core.checkpoints.files import needed_files
from perfusion_core.checkpoints.index import INDEX_FILE, read_index
from perfusion_core.downloads import (
    Progress,
    Unreachable,
    cached_folder,
    download,
    list_files,
    sizes,
)
from perfusion_core.errors import BaseModelError
from perfusion_core.hub import split_revision


def fetch(name_or_path: str | Path, *, progress: Progress | None = None) -> Path:
    """Return the folder or single file of a base model, fetching a hub's NAME or NAME@REVISION.

    A path on this machine is returned as it is. Files that are in the hub's cache are not fetched
    again, and an interrupted fetch is resumed. If the hub cannot be reached, the cached files are
    used. Raises BaseModelError if the model is of another kind, before its weights are fetched, or
    if it cannot be fetched.
    """
    path = Path(name_or_path)
    if path.exists():
        return path
    name, revision = split_revision(name_or_path)
    try:
        return download(name, _needed(name, revision), progress=progress)
    except Unreachable as error:
        try:
            return cached_folder(name, revision=revision, allow_patterns=[INDEX_FILE])
        except (OSError, ValueError):
            raise BaseModelError(
                f"There is no folder or file {str(name_or_path)!r} here, and the hub cannot be "
                "reached to fetch it. Check the name and the network, or give a path."
            ) from error
    except OSError as error:
        raise BaseModelError(
            f"Fetching {str(name_or_path)!r} failed ({error}). Try again: what was fetched is kept."
        ) from error


def sizes_of_base_model(name_or_path: str | Path) -> tuple[int, int]:
    """Return the bytes that `fetch` needs of a model, and those not on this machine yet.

    Both are 0 for a path on this machine. Raises BaseModelError as `fetch` does, and if the hub
    cannot be reached.
    """
    if Path(name_or_path).exists():
        return 0, 0
    try:
        return sizes(_needed(*split_revision(name_or_path)))
    except OSError as error:
        raise BaseModelError(
            f"The hub cannot be asked how large {str(name_or_path)!r} is ({error})."
        ) from error


def _needed(name: str, revision: str | None) -> list[Any]:
    """List a hub model's needed files; raise Unreachable, OSError or BaseModelError if none is."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    asked = f"{name}@{revision}" if revision else name
    try:
        listed = list_files(name, revision=revision, allow_patterns=["*"], ignore_patterns=[])
    except HFValidationError as error:
        raise BaseModelError(
            f"There is no folder or file {asked!r}, and a hub has no such names. Check the path."
        ) from error
    except GatedRepoError as error:
        raise BaseModelError(
            f"The hub gives {asked!r} only to people who accepted its terms. Accept them on its "
            "page, and set HF_TOKEN to your token."
        ) from error
    except RevisionNotFoundError as error:
        raise BaseModelError(f"The hub's {name!r} has no revision {revision!r}.") from error
    except RepositoryNotFoundError as error:
        raise BaseModelError(
            f"There is no folder or file {asked!r} here, and no such model on the hub. Check the "
            "name; for a private model set HF_TOKEN."
        ) from error
    files = {file.filename: file for file in listed}
    if INDEX_FILE not in files:
        raise BaseModelError(_without_index(asked, list(files)))
    index = read_index(download(name, [files[INDEX_FILE]]) / INDEX_FILE, name=asked)
    return [files[file] for file in needed_files(index, files, name=asked)]


def _without_index(asked: str, files: list[str]) -> str:
    single = [file for file in files if file.endswith((".safetensors", ".ckpt"))]
    advice = (
        f" It holds {', '.join(single[:3])}: download the file, and give its path if it is a whole "
        "checkpoint."
        if single
        else ""
    )
    return f"The hub's {asked!r} holds no {INDEX_FILE}, so it is no pipeline of diffusers.{advice}"
