"""A cache of concepts by file hash, so that each concept file is read and checked only once."""

import hashlib
from collections import OrderedDict
from threading import Lock

from perfusion_core.concept import Concept
from perfusion_core.errors import ConceptFileError
from service.blobs.store import BlobNotFound, Blobs
from worker.errors import FileGone


class ConceptCache:
    """The most recently used concepts. No entry becomes stale: the hash identifies the file."""

    def __init__(self, blobs: Blobs, *, most_bytes: int) -> None:
        """Keep concepts that use at most `most_bytes` of memory together."""
        self._blobs = blobs
        self._most_bytes = most_bytes
        self._lock = Lock()
        self._concepts: OrderedDict[str, tuple[Concept, int]] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """The memory used by the kept concepts, in bytes."""
        return self._held_bytes

    def get(self, sha256: str, *, blob_key: str) -> Concept:
        """Return the concept whose file, under `blob_key`, has this hash.

        Raises FileGone if the file was deleted, and ConceptFileError if the file is damaged.
        """
        with self._lock:
            if sha256 in self._concepts:
                self._concepts.move_to_end(sha256)
                return self._concepts[sha256][0]
        try:
            data = self._blobs.get(blob_key)
        except BlobNotFound:
            raise FileGone(
                "A concept of this prompt was deleted before the job started. Ask again without it."
            ) from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ConceptFileError(
                "The stored file of a concept is damaged: delete the concept and train it again."
            )
        concept = Concept.from_bytes(data)
        self._keep(sha256, concept)
        return concept

    def _keep(self, sha256: str, concept: Concept) -> None:
        # In memory the concept's numbers are float32, whatever the precision of the file.
        weight = len(concept.to_bytes())
        with self._lock:
            if sha256 not in self._concepts:  # another job may have read it meanwhile
                self._concepts[sha256] = concept, weight
                self._held_bytes += weight
            while self._held_bytes > self._most_bytes:
                _, (_, freed) = self._concepts.popitem(last=False)
                self._held_bytes -= freed
