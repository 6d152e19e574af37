"""Concepts by the hash of their file: read once, checked, and kept while they are in use."""

import hashlib
from collections import OrderedDict
from threading import Lock

from perfusion_core.concept import Concept
from perfusion_core.errors import ConceptFileError
from service.blobs import BlobNotFound, Blobs
from worker.errors import FileGone

_MOST_CONCEPTS = 256  # of 10 to 350 KB each


class ConceptCache:
    """The concepts used last. A file never changes under its hash, so nothing grows stale."""

    def __init__(self, blobs: Blobs, *, most: int = _MOST_CONCEPTS) -> None:
        self._blobs = blobs
        self._most = most
        self._lock = Lock()
        self._concepts: OrderedDict[str, Concept] = OrderedDict()

    def get(self, sha256: str, *, blob_key: str) -> Concept:
        """Return the concept whose file, under `blob_key`, has this hash.

        Raises FileGone where it was deleted, and ConceptFileError where it is damaged.
        """
        with self._lock:
            if sha256 in self._concepts:
                self._concepts.move_to_end(sha256)
                return self._concepts[sha256]
        try:
            data = self._blobs.get(blob_key)
        except BlobNotFound:
            raise FileGone(
                "A concept of this prompt was deleted before its turn came. Ask again without it."
            ) from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ConceptFileError(
                "The stored file of a concept is damaged: delete the concept and train it again."
            )
        concept = Concept.from_bytes(data)
        with self._lock:
            self._concepts[sha256] = concept
            while len(self._concepts) > self._most:
                self._concepts.popitem(last=False)
        return concept
