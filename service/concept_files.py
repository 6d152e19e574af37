"""Concept files from outside: nothing is trusted but what a training could have written."""

from perfusion_core.concept import MAX_CONCEPT_BYTES
from perfusion_core.concept import Concept as CoreConcept
from perfusion_core.errors import ConceptFileError
from service.errors import Conflict, TooLarge, invalid
from service.texts import check_superclass, is_storable
from service.views import BaseModelView

_MASK_SOURCES = ("upload", "alpha", "segmenter", "uniform")
_MAX_METADATA_LENGTH = 128


def read_concept(data: bytes) -> CoreConcept:
    """Return the concept in a file from outside, or raise what is wrong with the file."""
    if len(data) > MAX_CONCEPT_BYTES:
        raise TooLarge(
            "concept-file-too-large",
            f"A concept file has at most {MAX_CONCEPT_BYTES} bytes; this has {len(data)}.",
            pointer="/file",
        )
    try:
        core = CoreConcept.from_bytes(data)
    except ConceptFileError as error:
        raise invalid("/file", str(error), slug="concept-file") from None
    superclass = check_superclass(core.superclass, pointer="/file")
    texts = (
        core.family,
        core.base_model_name,
        core.base_model_fingerprint,
        core.covariance_fingerprint,
    )
    plain = all(is_storable(text) and len(text) <= _MAX_METADATA_LENGTH for text in texts)
    known = core.mask_source in _MASK_SOURCES and superclass == core.superclass
    if not plain or not known or not is_storable(dict(core.training)):
        raise invalid(
            "/file",
            "The concept file's metadata holds values that no training writes. "
            "Download or train it again.",
            slug="concept-file",
        )
    return core


def check_fingerprints(core: CoreConcept, base_model: BaseModelView) -> None:
    """Raise Conflict, naming both sides, unless the concept belongs to this base model."""
    for what, own, here in (
        ("base model", core.base_model_fingerprint, base_model.fingerprint),
        ("covariance", core.covariance_fingerprint, base_model.covariance_fingerprint),
    ):
        if own != here:
            raise Conflict(
                f"{what.replace(' ', '-')}-mismatch",
                f"This concept belongs to the {what} {own}, but the {what} here is {here}. "
                "Import it where that one is served, or train it again here.",
            )


def write_anew(core: CoreConcept, *, size_bytes: int) -> bytes:
    """Return the bytes to store for a concept that came in a file of `size_bytes`."""
    whole = core.to_bytes("float32")
    # A file of half precision is little more than half as long; it should stay so.
    return whole if size_bytes * 4 > len(whole) * 3 else core.to_bytes("float16")
