"""Links to images that open without a key, for a while: an `<img>` of a page cannot send one.

A link is signed with a secret of the server's own and says until when it holds. Whoever has it
sees that one image and its attention maps, and nothing else.
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


class Links:
    """Signs links, and knows its own again."""

    def __init__(self, settings: Settings) -> None:
        given = settings.link_secret
        self._secret = given.get_secret_value().encode() if given else secrets.token_bytes(32)

    def to_json(self, job: JobView) -> dict[str, Any]:
        """The job as JSON, with a `signed_url` beside the `url` of each image and map."""
        body = job.to_json()
        for image in body["images"]:
            query = self._query(image["id"])
            for one in (image, *(image["attention_maps"] or ())):
                one["signed_url"] = f"{one['url']}?{query}"
        return body

    def _query(self, image_id: str) -> str:
        """What opens an image for 10 to 15 minutes; the same for 5, so that browsers keep it."""
        expires = (int(time.time()) // _WINDOW_SECONDS + _WINDOWS) * _WINDOW_SECONDS
        return urlencode({"expires": expires, "sig": self._signature(image_id, expires)})

    def opens(self, image_id: str, *, expires: int, signature: str) -> bool:
        """Whether this is a link of ours that still holds."""
        expected = self._signature(image_id, expires).encode()
        ours = hmac.compare_digest(expected, signature.encode(errors="replace"))
        return ours and time.time() < expires

    def _signature(self, image_id: str, expires: int) -> str:
        text = f"image\n{image_id}\n{expires}"
        return hmac.digest(self._secret, text.encode(errors="replace"), "sha256").hex()
