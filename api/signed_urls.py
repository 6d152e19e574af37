"""Signed URLs, which give access to an image or a mask without a key for some minutes.

A page needs them because its `<img>` cannot send a key. The server signs a URL with its secret. A
signed URL contains its end of validity, and is valid only for one image with its thumbnail and its
attention maps, for the masks of one job, or for the pictures of one concept.
"""

import hmac
import secrets
import time
from typing import Any
from urllib.parse import urlencode

from service.concepts.views import ConceptPicturesView
from service.jobs.views import ImageView, JobView
from service.settings.environment import Settings

_WINDOW_SECONDS = 300
_WINDOWS = 3
MAX_AGE_SECONDS = _WINDOW_SECONDS * _WINDOWS


class SignedUrls:
    """Signs URLs of images, and verifies their signatures."""

    def __init__(self, settings: Settings) -> None:
        given = settings.link_secret
        self._secret = given.get_secret_value().encode() if given else secrets.token_bytes(32)

    def to_json(self, job: JobView) -> dict[str, Any]:
        """Return the job as JSON, with a signed URL next to the URL of each image, map and mask."""
        body = job.to_json()
        for image in body["images"]:
            self._sign_image(image)
        for picture in body["pictures"] or ():
            if picture["mask_url"] is not None:
                picture["signed_mask_url"] = f"{picture['mask_url']}?{self._query(job.id)}"
        return body

    def image_to_json(self, image: ImageView) -> dict[str, Any]:
        """Return the image as JSON, with signed URLs of image, thumbnail and maps."""
        body = image.to_json()
        self._sign_image(body)
        return body

    def pictures_to_json(self, pictures: ConceptPicturesView) -> dict[str, Any]:
        """Return a concept's pictures as JSON, with signed URLs of pictures and masks."""
        body = pictures.to_json()
        query = self._query(pictures.concept_id)
        for picture in body["items"]:
            picture["signed_url"] = f"{picture['url']}?{query}"
            if picture["mask_url"] is not None:
                picture["signed_mask_url"] = f"{picture['mask_url']}?{query}"
        return body

    def _sign_image(self, image: dict[str, Any]) -> None:
        query = self._query(image["id"])
        for file in (image, *(image["attention_maps"] or ())):
            file["signed_url"] = f"{file['url']}?{query}"
        image["signed_thumbnail_url"] = f"{image['thumbnail_url']}?{query}"

    def _query(self, identity: str) -> str:
        """Return a query that gives access to the files of one object for 10 to 15 minutes.

        The query stays the same for 5 minutes, so that browsers can cache the file.
        """
        expires = (int(time.time()) // _WINDOW_SECONDS + _WINDOWS) * _WINDOW_SECONDS
        return urlencode({"expires": expires, "sig": self._signature(identity, expires)})

    def opens(self, image_id: str, *, expires: int, signature: str) -> bool:
        """Return whether this server signed the link and the link is still valid."""
        expected = self._signature(image_id, expires).encode()
        ours = hmac.compare_digest(expected, signature.encode(errors="replace"))
        return ours and time.time() < expires

    def _signature(self, image_id: str, expires: int) -> str:
        text = f"image\n{image_id}\n{expires}"
        return hmac.digest(self._secret, text.encode(errors="replace"), "sha256").hex()
