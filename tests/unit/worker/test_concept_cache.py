"""Concepts by the hash of their file."""

import hashlib

import pytest

from perfusion_core.concept import Concept
from perfusion_core.errors import ConceptFileError
from service.wiring import Service
from worker.concept_cache import ConceptCache
from worker.errors import FileGone


def put(service: Service, concept: Concept, key: str) -> str:
    data = concept.to_bytes()
    service.blobs.put(key, data)
    return hashlib.sha256(data).hexdigest()


def test_a_concept_is_read_once(service: Service, concept: Concept) -> None:
    cache = ConceptCache(service.blobs)
    sha256 = put(service, concept, "concepts/a.safetensors")
    first = cache.get(sha256, blob_key="concepts/a.safetensors")
    service.blobs.delete("concepts/a.safetensors")
    assert cache.get(sha256, blob_key="concepts/a.safetensors") is first


def test_the_concept_unused_for_longest_makes_room(service: Service, concept: Concept) -> None:
    cache = ConceptCache(service.blobs, most=2)
    keys = {
        name: put(service, concept.renamed(name), f"concepts/{name}.safetensors") for name in "abc"
    }
    for name in "abac":
        cache.get(keys[name], blob_key=f"concepts/{name}.safetensors")
    for name in "abc":
        service.blobs.delete(f"concepts/{name}.safetensors")
    assert cache.get(keys["a"], blob_key="concepts/a.safetensors").name == "a"
    with pytest.raises(FileGone):
        cache.get(keys["b"], blob_key="concepts/b.safetensors")


def test_a_file_that_is_not_what_its_hash_says_is_refused(
    service: Service, concept: Concept
) -> None:
    sha256 = put(service, concept, "concepts/a.safetensors")
    put(service, concept.renamed("b"), "concepts/a.safetensors")
    with pytest.raises(ConceptFileError, match="damaged"):
        ConceptCache(service.blobs).get(sha256, blob_key="concepts/a.safetensors")
