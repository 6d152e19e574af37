"""A concept's files for other tools: LoRA, embedding, and a zip with a card.

An embedding is in the concept file. A LoRA needs the base model's projections, which only a worker
has: `read` asks for it in the concept's row, a worker that serves the concept's base model makes it
within a moment (worker/exports.py), and the blob store keeps it. Its key contains the hash of the
concept's file and the concept's name, so a LoRA is never of another file: concepts that were
imported, trained by an earlier release, trained again or reverted all take this one way.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import select, update

from perfusion_core.concept import Concept
from perfusion_core.errors import ConceptFileError
from perfusion_core.evaluation.verdict import figures_of, verdict
from perfusion_core.export.embedding import export_embedding
from perfusion_core.export.names import FileNames
from perfusion_core.export.share_zip import pack, share_files
from service import base_models
from service.blobs import keys
from service.blobs.store import BlobNotFound, StoredFile
from service.concepts import rows
from service.concepts import use_cases as concepts
from service.database.tables import ConceptRow
from service.errors import Conflict, NotFound, Unavailable
from service.wiring import Service

FileFormat = Literal["perfusion", "lora", "embedding", "zip"]
PRECISION: Literal["float16"] = "float16"
"""The precision of LoRAs and of the embeddings with them, which is usual among other tools."""

_MOST_AT_ONCE = 8
_RETRY_SECONDS = 2


class NotMadeYet(Unavailable):
    """The LoRA was asked for, and no worker has made it yet."""


@dataclass(frozen=True)
class RequestedExport:
    """A concept whose LoRA a worker should make."""

    concept_id: str
    name: str
    sha256: str
    blob_key: str


def read(service: Service, owner_id: str, *, ref: str, file_format: FileFormat) -> StoredFile:
    """Return a ready concept's file in a format; `name` is the file's name with its ending.

    Raises NotMadeYet if a worker has yet to make the LoRA, and Conflict if no worker can, since the
    served base model is another than the concept's.
    """
    stored = concepts.read_file(service, owner_id, ref=ref)
    names = FileNames(stored.name)
    if file_format == "perfusion":
        return StoredFile(data=stored.data, sha256=stored.sha256, name=names.concept)
    concept = _concept(stored)
    if file_format == "embedding":
        return _file(export_embedding(concept, dtype=PRECISION), names.embedding)
    lora = _lora(service, owner_id, ref=ref, sha256=stored.sha256)
    if file_format == "lora":
        return _file(lora, names.lora)
    return _file(_zip(service, concept, stored=stored, lora=lora), names.zip)


def requested(
    service: Service, *, base_model: str, covariance: str, but: frozenset[RequestedExport]
) -> list[RequestedExport]:
    """Return concepts of a base model (fingerprints) whose LoRAs are asked for, the first first.

    Leaves out the ones in `but`.
    """
    statement = (
        select(ConceptRow.id, ConceptRow.name, ConceptRow.sha256, ConceptRow.blob_key)
        .where(
            ConceptRow.export_requested_at.is_not(None),
            ConceptRow.base_model_fingerprint == base_model,
            ConceptRow.covariance_fingerprint == covariance,
        )
        .order_by(ConceptRow.export_requested_at)
        .limit(_MOST_AT_ONCE + len(but))
    )
    with service.database.read() as session:
        found = [
            RequestedExport(concept_id, name, sha256, blob_key)
            for concept_id, name, sha256, blob_key in session.execute(statement)
            if sha256 is not None and blob_key is not None
        ]
    return [each for each in found if each not in but][:_MOST_AT_ONCE]


def store(service: Service, export: RequestedExport, lora: bytes) -> None:
    """Keep a LoRA that a worker has made; an empty one says that it cannot be made."""
    key = keys.export_key(export.concept_id, name=export.name, sha256=export.sha256)
    service.blobs.put(key, lora)
    with service.database.write() as session:
        session.execute(
            update(ConceptRow)
            .where(ConceptRow.id == export.concept_id, ConceptRow.sha256 == export.sha256)
            .values(export_requested_at=None)
        )


def _lora(service: Service, owner_id: str, *, ref: str, sha256: str) -> bytes:
    with service.database.read() as session:
        row = rows.find(session, owner_id, ref=ref)
        why_not = rows.view(row).reason
        is_served = base_models.served(session) is not None
    key = keys.export_key(row.id, name=row.name, sha256=sha256)
    try:
        lora = service.blobs.get(key)
    except BlobNotFound:
        pass
    else:
        if lora:
            return lora
        raise Conflict(
            "export-failed",
            f"The file of the concept {row.name} does not fit its base model, so it has no LoRA. "
            "Import it again, or train it again.",
        )
    if why_not is not None:
        raise Conflict(
            "base-model-mismatch",
            f"The LoRA of the concept {row.name} is made from its base model's weights. {why_not}",
        )
    if not is_served:
        raise Unavailable(
            "no-base-model",
            "No worker has loaded a base model yet, and a LoRA is made from its weights. Try again "
            "in a moment.",
            retry_after_seconds=10,
        )
    with service.database.write() as session:
        session.execute(
            update(ConceptRow)
            .where(ConceptRow.id == row.id, ConceptRow.export_requested_at.is_(None))
            .values(export_requested_at=service.database.now(session))
        )
    raise NotMadeYet(
        slug="export-not-made",
        detail="A worker makes this file now, which takes a moment. Ask again.",
        retry_after_seconds=_RETRY_SECONDS,
    )


def _zip(service: Service, concept: Concept, *, stored: StoredFile, lora: bytes) -> bytes:
    with service.database.read() as session:
        served = base_models.served(session)
    judged = None
    if served is not None and concept.evaluation is not None:
        judged = verdict(
            figures_of(concept.evaluation),
            superclass=concept.superclass,
            base_model=concept.base_model_fingerprint,
            calibration=served.calibration,
        )
    return pack(
        share_files(concept, concept_file=stored.data, lora=lora, dtype=PRECISION, judged=judged)
    )


def _concept(stored: StoredFile) -> Concept:
    try:
        return Concept.from_bytes(stored.data).renamed(stored.name)
    except ConceptFileError:
        raise NotFound(
            "concept-file-not-found",
            "The stored file of this concept is damaged: import it again, or train it again.",
        ) from None


def _file(data: bytes, name: str) -> StoredFile:
    return StoredFile(data=data, sha256=hashlib.sha256(data).hexdigest(), name=name)
