"""Operating curves, read from the concepts' files, because a curve is part of such a file."""

import hashlib

from perfusion_core.concept import Concept as CoreConcept
from perfusion_core.errors import ConceptFileError
from perfusion_core.evaluation.curve import Curve, Similarity, recommended_strength
from perfusion_core.evaluation.record import Evaluation
from perfusion_core.evaluation.verdict import figures_of, verdict
from service import base_models
from service.blobs.store import StoredFile
from service.concepts import use_cases as concepts
from service.concepts.views import CurvePointView, CurveView, SimilaritiesView, VerdictView
from service.errors import NotFound
from service.wiring import Service

THUMBNAIL_MEDIA_TYPE = "image/webp"


def get(service: Service, owner_id: str, *, ref: str) -> CurveView:
    """Return the operating curve of a ready concept."""
    concept_id = concepts.get(service, owner_id, ref=ref).id
    core, found, curve = _read(service, owner_id, ref=concept_id)
    return CurveView(
        concept_id=concept_id,
        evaluator=found.evaluator.name,
        evaluator_fingerprint=found.evaluator.fingerprint,
        # Prompts use the placeholder of the row, because the file may contain an older name.
        prompts=tuple(prompt.format(core.placeholder) for prompt in curve.prompts),
        superclass=_view(curve.superclass),
        ceiling=curve.ceiling,
        text_floor=curve.text_floor,
        points=tuple(
            CurvePointView(
                strength=point.strength,
                beta=point.beta,
                image_similarity=point.similarity.image,
                text_similarity=point.similarity.text,
                thumbnail_url=f"/concepts/{concept_id}/curve/{k}",
            )
            for k, point in enumerate(curve.points)
        ),
        recommended_strength=recommended_strength(curve),
        verdict=_verdict(service, core, found),
    )


def read_thumbnail(service: Service, owner_id: str, *, ref: str, index: int) -> StoredFile:
    """Return the thumbnail of point `index` of a concept's curve."""
    _, found, curve = _read(service, owner_id, ref=ref)
    if not 0 <= index < len(found.thumbnails):
        raise NotFound(
            "curve-not-found",
            f"The curve of this concept has {len(curve.points)} points, counted from 0.",
        )
    data = found.thumbnails[index]
    return StoredFile(data=data, sha256=hashlib.sha256(data).hexdigest())


def _read(service: Service, owner_id: str, *, ref: str) -> tuple[CoreConcept, Evaluation, Curve]:
    file = concepts.read_file(service, owner_id, ref=ref)
    try:
        core = CoreConcept.from_bytes(file.data).renamed(file.name)
    except ConceptFileError as error:
        raise NotFound("concept-file-not-found", str(error)) from None
    if core.evaluation is None or core.curve is None:
        raise NotFound(
            "curve-not-found",
            "This concept has no operating curve: it was trained without an evaluator, or by an "
            "earlier release. Train it again where PERFUSION_EVALUATOR names one.",
        )
    return core, core.evaluation, core.curve


def _verdict(service: Service, core: CoreConcept, found: Evaluation) -> VerdictView:
    judged = verdict(
        figures_of(found),
        superclass=core.superclass,
        base_model=core.base_model_fingerprint,
        calibration=base_models.calibration(base_models.current_base_model(service)),
    )
    return VerdictView.of(judged)


def _view(similarity: Similarity) -> SimilaritiesView:
    return SimilaritiesView(image_similarity=similarity.image, text_similarity=similarity.text)
