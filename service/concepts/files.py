"""Concept files from outside: accept only data that a training could have written."""

import io
from dataclasses import replace
from typing import Any, Literal

from PIL import Image

from perfusion_core import siblings
from perfusion_core.concept import MAX_CONCEPT_BYTES, Concept
from perfusion_core.errors import ConceptFileError
from perfusion_core.evaluation.calibration import Calibration
from perfusion_core.evaluation.curve import balance_at, recommended
from perfusion_core.evaluation.verdict import Figures, Verdict, figures_of, verdict
from perfusion_core.export.recognition import concept_bytes
from perfusion_core.imaging.thumbnails import thumbnail
from service import base_models
from service.base_models import RegisteredBaseModel
from service.errors import Conflict, FieldProblem, ServiceError, TooLarge, Unavailable, invalid
from service.jobs.lease_types import Standing
from service.pictures import uploads
from service.validation import check_superclass, is_storable
from service.wiring import Service

_MASK_SOURCES = ("upload", "alpha", "segmenter", "uniform")
_MAX_METADATA_LENGTH = 128


def unpack(data: bytes) -> bytes:
    """Return the concept file in an upload, which is one or a zip to share.

    Raises Invalid with what the file is and what to do for a LoRA, an embedding or another zip.
    """
    try:
        return concept_bytes(data)
    except ConceptFileError as error:
        raise invalid("/file", str(error), slug="concept-file") from None


def read_concept(data: bytes) -> Concept:
    """Return the concept in a file from outside, or raise the reason to refuse the file."""
    if len(data) > MAX_CONCEPT_BYTES:
        raise TooLarge(
            "concept-file-too-large",
            f"A concept file has at most {MAX_CONCEPT_BYTES} bytes; this has {len(data)}.",
            pointer="/file",
        )
    try:
        core = Concept.from_bytes(data)
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


def fitting(core: Concept, base_model: RegisteredBaseModel, *, adapt: bool) -> Concept:
    """Return the concept for this base model; with `adapt` also a concept of a sibling.

    Raises Conflict, naming both fingerprints, for every other concept. Of a concept that `adapt`
    would accept, the error's field is `/adapt`. Raises Invalid for a concept that names this base
    model, or a sibling, and has vectors of other sizes.
    """
    here = base_models.identity(base_model)
    reason = None if siblings.fits(core, here) else siblings.why_not_sibling(core, here)
    if reason is None and (adapt or siblings.fits(core, here)):
        _check_sizes(core, base_model)
        return siblings.adapt(core, here)
    what, own, other = "base model", core.base_model_fingerprint, here.fingerprint
    if own == other:
        what, own, other = "covariance", core.covariance_fingerprint, here.covariance_fingerprint
    sentence = f"This concept belongs to the {what} {own}, but the {what} here is {other}."
    slug = f"{what.replace(' ', '-')}-mismatch"
    if reason is not None:
        raise Conflict(slug, f"{sentence} {reason}")
    offer = (
        "They have the same text encoders and layer widths: import it with adapt=true, and its "
        "likeness is measured here anew."
    )
    raise Conflict(slug, f"{sentence} {offer}", errors=[FieldProblem("/adapt", offer)])


def _check_sizes(core: Concept, base_model: RegisteredBaseModel) -> None:
    own = {
        "value_width": core.o_v.size,
        "encoding_width": core.i_star.size,
        "embedding_widths": [vector.size for vector in core.embeddings],
    }
    # A worker of an earlier release may not have described them all.
    if any(base_model.info.get(name, width) != width for name, width in own.items()):
        raise invalid(
            "/file",
            f"The concept {core.placeholder} names the base model {core.base_model_fingerprint}, "
            "but its vectors have other sizes than that base model's: the file is damaged or was "
            "changed. Download it again, or train the concept again.",
            slug="concept-file",
        )


def write_anew(service: Service, core: Concept, *, size_bytes: int) -> bytes:
    """Return the bytes to store for a concept that was uploaded as a file of `size_bytes`.

    Thumbnails in the file are decoded and encoded again. Raise Invalid if a thumbnail is not a
    picture.
    """
    whole, half = core.to_bytes("float32"), core.to_bytes("float16")
    # A float16 file stays float16.
    dtype: Literal["float32", "float16"] = "float16"
    if 2 * size_bytes > len(whole) + len(half):
        dtype = "float32"
    return _with_own_thumbnails(service, core).to_bytes(dtype)


def judgement_of(core: Concept, calibration: Calibration | None) -> dict[str, Any] | None:
    """Return the data that a concept's row stores about an operating curve; None without a curve.

    The verdict is computed from `figures` whenever the row is read, see rows.py. `quality` and
    `reasons` are for API processes of the previous release, which know only three verdicts.
    """
    figures = figures_of(core.evaluation) if core.evaluation is not None else None
    if figures is None:
        return None
    judged = _verdict(core, figures, calibration)
    return {
        "figures": figures.to_json(),
        "recommended_strength": figures.strength,
        "quality": "weak" if judged.quality == "uncalibrated" else judged.quality,
        "reasons": list(judged.reasons),
    }


def standing_of(core: Concept, calibration: Calibration | None) -> Standing | None:
    """Return the standing by which a concept is compared with another; None without a curve."""
    curve = core.curve
    figures = figures_of(core.evaluation) if core.evaluation is not None else None
    if curve is None or figures is None:
        return None
    return Standing(
        quality=_verdict(core, figures, calibration).quality,
        balance=balance_at(recommended(curve), curve),
        measured_by=(figures.evaluator, figures.judging),
    )


def _verdict(core: Concept, figures: Figures, calibration: Calibration | None) -> Verdict:
    return verdict(
        figures,
        superclass=core.superclass,
        base_model=core.base_model_fingerprint,
        calibration=calibration,
    )


def _with_own_thumbnails(service: Service, core: Concept) -> Concept:
    found = core.evaluation
    if found is None or not found.thumbnails:
        return core
    try:
        pngs = uploads.read_thumbnails(service, found.thumbnails, pointer="/file")
    except Unavailable:
        raise
    except ServiceError as error:
        raise invalid(
            "/file",
            f"A thumbnail in the concept file cannot be used. {error.detail}",
            slug="concept-file",
        ) from None
    own = tuple(thumbnail(Image.open(io.BytesIO(png), formats=("PNG",))) for png in pngs)
    return replace(core, evaluation=replace(found, thumbnails=own))
