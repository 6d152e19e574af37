"""The keys of all blobs: paths of plain names. Only this module makes keys."""

from service.blobs.store import is_safe

# Holds the id of the store's deployment. No release's garbage collection removes this key.
DEPLOYMENT_KEY = "deployment"


def owner_of(key: str) -> tuple[str, str] | None:
    """Return the folder and the id of the concept or job that `key` belongs to.

    Return None if `key` belongs to no concept and no job.
    """
    folder, _, rest = key.partition("/")
    if folder not in ("pictures", "concepts", "exports", "jobs") or not is_safe(key):
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


def exports_prefix(concept_id: str) -> str:
    """Return the folder of the LoRAs of a concept's files."""
    return f"exports/{concept_id}/"


def export_key(concept_id: str, *, name: str, sha256: str) -> str:
    """Return the key of the LoRA of a concept's file, which says the concept's name."""
    return f"{exports_prefix(concept_id)}{sha256[:32]}.{name}.safetensors"


def job_prefix(job_id: str) -> str:
    """Return the folder of everything that a job writes."""
    return f"jobs/{job_id}/"


def inspected_prefix(job_id: str) -> str:
    """Return the folder of the pictures and masks that an inspection reads."""
    return f"{job_prefix(job_id)}pictures/"


def inspected_picture_key(job_id: str, position: int) -> str:
    """Return the key of a picture that an inspection reads."""
    return f"{inspected_prefix(job_id)}{position}.png"


def inspected_mask_key(job_id: str, position: int) -> str:
    """Return the key of an uploaded mask that an inspection reads."""
    return f"{inspected_prefix(job_id)}{position}.mask.png"


def edit_prefix(job_id: str) -> str:
    """Return the folder of the uploaded picture and mask that an edit reads."""
    return f"{job_prefix(job_id)}edit/"


def edit_picture_key(job_id: str) -> str:
    """Return the key of the uploaded picture that an edit starts from."""
    return f"{edit_prefix(job_id)}picture.png"


def edit_mask_key(job_id: str) -> str:
    """Return the key of the uploaded mask of an edit."""
    return f"{edit_prefix(job_id)}mask.png"


def attempt_prefix(job_id: str, attempt: int) -> str:
    """Return the folder of one attempt's results; no other attempt writes there."""
    return f"{job_prefix(job_id)}{attempt}/"


def image_key(job_id: str, attempt: int, *, index: int) -> str:
    """Return the key of a generated image."""
    return f"{attempt_prefix(job_id, attempt)}{index}.png"


def thumbnail_key(job_id: str, attempt: int, *, index: int) -> str:
    """Return the key of a generated image's thumbnail."""
    return f"{attempt_prefix(job_id, attempt)}{index}.webp"


def attention_map_key(job_id: str, attempt: int, *, index: int, number: int) -> str:
    """Return the key of an attention map over image `index`."""
    return f"{attempt_prefix(job_id, attempt)}{index}.attention-{number}.png"


def found_mask_key(job_id: str, attempt: int, *, index: int) -> str:
    """Return the key of the mask that an inspection chose for a picture."""
    return f"{attempt_prefix(job_id, attempt)}{index}.mask.png"


def state_key(job_id: str, attempt: int) -> str:
    """Return the key of the training state that an attempt saves."""
    return f"{attempt_prefix(job_id, attempt)}state.safetensors"


def previous_state_key(job_id: str) -> str:
    """Return the key that the previous release uses for the training state of every attempt."""
    return f"{job_prefix(job_id)}state.safetensors"


def preview_key(job_id: str, attempt: int) -> str:
    """Return the key of the preview picture that an attempt draws."""
    return f"{attempt_prefix(job_id, attempt)}preview.png"


def live_previews_key(job_id: str, attempt: int) -> str:
    """Return the key of the previews that an attempt draws of the images that it samples."""
    return f"{attempt_prefix(job_id, attempt)}previews.json"


def last_preview_key(job_id: str) -> str:
    """Return the key of a finished training's preview; the previous release uses only this key."""
    return f"{job_prefix(job_id)}preview.png"


def preview_keys(job_id: str, preview_attempt: int | None) -> list[str]:
    """Return the keys that may contain a training's preview, the newest first."""
    last = [last_preview_key(job_id)]
    return last if preview_attempt is None else [preview_key(job_id, preview_attempt), *last]
