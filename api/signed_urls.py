"""Signed URLs, which give access to an image without a key for some minutes.

A page needs them because its `<img>` cannot send a key. The server signs a URL with its secret. A
signed URL contains its end of validity, and is valid only for one image and that image's attention
maps.
"""

import hmac
import secrets
import time
from typing import Any
from urllib.parse import urlencode

from service.jobs.views import JobView
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
        """Return the job as JSON, with a `signed_url` next to the `url` of each image and map."""
        body = job.to_json()
        for image in body["images"]:
            query = self._query(image["id"])
            for file in (image, *(image["attention_maps"] or ())):
                file["signed_url"] = f"{file['url']}?{query}"
        return body

    def _query(self, image_id: str) -> str:
        """Return a query that gives access to an image for 10 to 15 minutes.

        The query stays the same for 5 minutes, so that browsers can cache the image.
        """
        expires = (int(time.time()) // _WINDOW_SECONDS + _WINDOWS) * _WINDOW_SECONDS
        return urlencode({"expires": expires, "sig": self._signature(image_id, expires)})

    def opens(self, image_id: str, *, expires: int, signature: str) -> bool:
        """Return whether this server signed the link and the link is still valid."""
        expected = self._signature(image_id, expires).encode()
        ours = hmac.compare_digest(expected, signature.encode(errors="replace"))
        return ours and time.time() < expires

    def _signature(self, image_id: str, expires: int) -> str:
        text = f"image\n{image_id}\n{expires}"
        return hmac.digest(self._secret, text.encode(errors="replace"), "sha256").hex()
