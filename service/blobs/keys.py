"""The keys of all blobs: paths of plain names. Only this module makes keys."""

from service.blobs.store import is_safe

# Holds the id of the store's deployment. No release's garbage collection removes this key.
DEPLOYMENT_KEY = "deployment"


def owner_of(key: str) -> tuple[str, str] | None:
    """Return the folder and the id of the concept or job that `key` belongs to.

    Return None if `key` belongs to no concept and no job.
    """
    folder, _, rest = key.partition("/")
    if folder not in ("pictures", "concepts", "jobs") or not is_safe(key):
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
    """Return the folder of one attempt's results; no other attempt writes there."""
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
    """Return the key that the previous release uses for the training state of every attempt."""
    return f"{job_prefix(job_id)}state.safetensors"


def preview_key(job_id: str, attempt: int) -> str:
    """Return the key of the preview picture that an attempt draws."""
    return f"{attempt_prefix(job_id, attempt)}preview.png"


def last_preview_key(job_id: str) -> str:
    """Return the key of a finished training's preview; the previous release uses only this key."""
    return f"{job_prefix(job_id)}preview.png"


def preview_keys(job_id: str, preview_attempt: int | None) -> list[str]:
    """Return the keys that may contain a training's preview, the newest first."""
    last = [last_preview_key(job_id)]
    return last if preview_attempt is None else [preview_key(job_id, preview_attempt), *last]
