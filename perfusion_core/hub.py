"""Finds the files of a pretrained model, in a folder or on a hub.

A hub's model may change while its name stays the same. `name@revision` pins the model. A commit
pins the model for good; a branch or a tag pins the model only until the model's owner moves the
branch or tag. Weights are read from safetensors only, because other weight files are pickles.
"""

from pathlib import Path

from perfusion_core.errors import BaseModelError

_WEIGHTS = "model*.safetensors"


def split_revision(name_or_path: str | Path) -> tuple[str, str | None]:
    """Return the model's name and its pinned revision, or None; a folder has no revision."""
    text = str(name_or_path)
    name, at, revision = text.rpartition("@")
    if not at or Path(text).is_dir():
        return text, None
    if not (name and revision):
        raise BaseModelError(f"{text!r} pins no revision: write NAME@REVISION, such as a commit.")
    return name, revision


def find_folder(name_or_path: str | Path, *, role: str) -> Path:
    """Return the folder of a transformers model; download a hub's model first.

    Only configuration and safetensors files are downloaded. Raises BaseModelError if configuration
    or safetensors files are missing. The message names the model's purpose, `role`, such as
    "evaluator".
    """
    from huggingface_hub import snapshot_download

    folder = Path(name_or_path)
    if not folder.is_dir():
        name, revision = split_revision(name_or_path)
        try:
            folder = Path(
                snapshot_download(
                    name,
                    revision=revision,
                    allow_patterns=["*.json", "*.txt", _WEIGHTS],
                    ignore_patterns=["adapter_*"],
                )
            )
        except (OSError, ValueError) as error:
            raise BaseModelError(
                f"The {role} {str(name_or_path)!r} cannot be loaded: name a folder, or a hub's "
                "model that this machine can download, as NAME or NAME@REVISION."
            ) from error
    if not any(folder.glob(_WEIGHTS)):
        raise BaseModelError(
            f"The {role} {str(name_or_path)!r} has no model.safetensors, and no other weights are "
            "loaded: name a revision that has it, or convert the model (docs/operations.md)."
        )
    refuse_adapters(folder)
    return folder


def refuse_adapters(folder: Path) -> None:
    """Raise BaseModelError if the model comes with an adapter, whose weights may be a pickle."""
    found = next(folder.rglob("adapter_*"), None)
    if found is not None:
        raise BaseModelError(
            f"{str(found)!r} belongs to an adapter, which is not loaded: merge it into the model "
            "and save that, or remove the adapter's files."
        )
