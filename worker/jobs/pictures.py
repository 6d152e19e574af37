"""Reads the pictures of a job from the blob store, with their masks."""

import io
from collections.abc import Sequence
from typing import Protocol

from PIL import Image

from service.blobs.store import BlobNotFound
from service.wiring import Service
from worker.errors import FileGone


class _Stored(Protocol):
    @property
    def blob_key(self) -> str: ...
    @property
    def mask_key(self) -> str | None: ...


def read(
    service: Service, listed: Sequence[_Stored]
) -> tuple[list[Image.Image], list[Image.Image | None]]:
    """Return pictures and masks (None: the picture has none); raise FileGone if one is missing."""
    try:
        pictures = [load(service, each.blob_key) for each in listed]
        masks = [
            load(service, picture.mask_key) if picture.mask_key else None for picture in listed
        ]
    except BlobNotFound:
        raise FileGone(
            "A picture of this job is not there any more. Send the pictures again."
        ) from None
    return pictures, masks


def load(service: Service, blob_key: str) -> Image.Image:
    """Return the picture under a key; raise BlobNotFound if it is missing."""
    return opened(service.blobs.get(blob_key))


def opened(png: bytes) -> Image.Image:
    """Return a decoded PNG of the blob store.

    It is safe to decode, because the service or a worker wrote it, from a picture that was decoded
    within bounds.
    """
    picture = Image.open(io.BytesIO(png), formats=("PNG",))
    picture.load()
    return picture
